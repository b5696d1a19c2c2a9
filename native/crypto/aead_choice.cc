// SPDX-License-Identifier: Apache-2.0
#include <sodium.h>

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "crypto/aead.h"
#include "crypto/cpu_aes.h"

namespace omerta::crypto {
namespace {

/// Sizes around block and vector boundaries, and those that packets have.
constexpr size_t kSizes[] = {0,   1,    15,   16,   17,   31,   32,   63,   64,   65,
                             127, 128,  129,  191,  192,  255,  256,  257,  511,  512,
                             513, 1000, 1023, 1024, 1025, 1280, 1400, 1420, 1421, 9000};

/// What the tested implementation has to produce, from another one.
std::vector<uint8_t> reference_seal(const AeadKey& key, uint64_t counter, const std::vector<uint8_t>& plain) {
  uint8_t nonce[12] = {};
  store(nonce + 4, counter);
  std::vector<uint8_t> sealed(plain.size() + kAeadTagSize);
  if (key.suite == Suite::chacha20_poly1305) {
    crypto_aead_chacha20poly1305_ietf_encrypt(sealed.data(), nullptr, plain.data(), plain.size(), nullptr, 0,
                                              nullptr, nonce, key.bytes.data());
  } else if (crypto_aead_aes256gcm_is_available() != 0) {
    crypto_aead_aes256gcm_encrypt(sealed.data(), nullptr, plain.data(), plain.size(), nullptr, 0, nullptr,
                                  nonce, key.bytes.data());
  } else {
    std::copy(plain.begin(), plain.end(), sealed.begin());
    AeadJob job{&key, counter, sealed.data(), plain.size(), false};
    make_openssl_aead(key.suite)->seal(std::span(&job, 1));
  }
  return sealed;
}

/// McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B, test cases 13 and 14: key and
/// nonce of zeros; no text, and one block of zeros.
bool passes_published_gcm_vectors(TransportAead& aead) {
  constexpr std::array<uint8_t, 16> kTag13 = {0x53, 0x0f, 0x8a, 0xfb, 0xc7, 0x45, 0x36, 0xb9,
                                              0xa9, 0x63, 0xb4, 0xf1, 0xc4, 0xcb, 0x73, 0x8b};
  constexpr std::array<uint8_t, 32> kSealed14 = {
      0xce, 0xa7, 0x40, 0x3d, 0x4d, 0x60, 0x6b, 0x6e, 0x07, 0x4e, 0xc5, 0xd3, 0xba, 0xf3, 0x9d, 0x18,
      0xd0, 0xd1, 0xc8, 0xa7, 0x99, 0x99, 0x6b, 0xf0, 0x26, 0x5b, 0x98, 0xb5, 0xd4, 0x8a, 0xb9, 0x19};
  const AeadKey key(Suite::aes_256_gcm, Key32{}, UINT64_MAX - 2);
  std::array<uint8_t, 16> empty{};
  std::array<uint8_t, 32> block{};
  AeadJob jobs[2] = {{&key, 0, empty.data(), 0, false}, {&key, 0, block.data(), 16, false}};
  aead.seal(jobs);
  return jobs[0].ok && jobs[1].ok && empty == kTag13 && block == kSealed14;
}

}  // namespace

bool passes_self_test(TransportAead& aead, Suite suite) {
  if (suite == Suite::aes_256_gcm && !passes_published_gcm_vectors(aead)) return false;
  Key32 bytes[2];
  bytes[0].fill(0x42);
  for (size_t i = 0; i < 32; i++) bytes[1][i] = static_cast<uint8_t>(i * 7);
  // Ids that no session has: sessions count up from 1.
  const AeadKey keys[2] = {{suite, bytes[0], UINT64_MAX}, {suite, bytes[1], UINT64_MAX - 1}};
  struct Packet {
    std::vector<uint8_t> plain, sealed, buffer;
  };
  std::vector<Packet> packets;
  std::vector<AeadJob> jobs;
  for (const size_t size : kSizes)
    for (size_t k = 0; k < 2; k++) {
      Packet p;
      p.plain.resize(size);
      for (size_t i = 0; i < size; i++) p.plain[i] = static_cast<uint8_t>(i * 31 + size + k);
      const uint64_t counter = size * 0x100000001u + k;
      p.sealed = reference_seal(keys[k], counter, p.plain);
      p.buffer = p.plain;
      p.buffer.resize(size + kAeadTagSize);
      packets.push_back(std::move(p));
      jobs.push_back({&keys[k], counter, nullptr, size, false});
    }
  for (size_t i = 0; i < jobs.size(); i++) jobs[i].text = packets[i].buffer.data();
  aead.seal(jobs);
  for (size_t i = 0; i < jobs.size(); i++)
    if (!jobs[i].ok || packets[i].buffer != packets[i].sealed) return false;
  aead.open(jobs);
  for (size_t i = 0; i < jobs.size(); i++)
    if (!jobs[i].ok ||
        !std::equal(packets[i].plain.begin(), packets[i].plain.end(), packets[i].buffer.begin()))
      return false;
  // One bit wrong, in the text or in the tag, opens nothing.
  for (size_t i = 0; i < jobs.size(); i++) {
    packets[i].buffer = packets[i].sealed;
    packets[i].buffer[(i * 13) % packets[i].buffer.size()] ^= static_cast<uint8_t>(1u << (i % 8));
    jobs[i].text = packets[i].buffer.data();
  }
  aead.open(jobs);
  for (const AeadJob& job : jobs)
    if (job.ok) return false;
  return true;
}

AeadChoice choose_aead(AeadSwitches switches) {
  AeadChoice choice;
  choice.ipsec_mb_reason = {"switched-off", {}};
  for (const Suite suite : {Suite::chacha20_poly1305, Suite::aes_256_gcm}) {
    SuiteChoice& chosen = choice.suites[static_cast<size_t>(suite)];
    if (suite == Suite::aes_256_gcm && (!switches.aes_256_gcm || !cpu_has_aes())) {
      chosen.reason =
          switches.aes_256_gcm ? Reason{"needs-cpu", "AES instructions"} : Reason{"switched-off", {}};
      continue;
    }
    if (switches.ipsec_mb) {
      Reason why;
      if (const auto candidate = make_ipsec_mb_aead(suite, why); candidate != nullptr) {
        chosen.ipsec_mb = passes_self_test(*candidate, suite);
        chosen.library = "intel-ipsec-mb, " + why.detail;
        why = chosen.ipsec_mb ? Reason{"self-test-passed", why.detail}
                              : Reason{"self-test-failed", std::string("wrong bytes of ") + name_of(suite)};
      }
      // Of two reasons the one that something is wrong is worth telling.
      if (suite == Suite::chacha20_poly1305 || !chosen.ipsec_mb) choice.ipsec_mb_reason = why;
    }
    if (!chosen.ipsec_mb) {
      chosen.library = "OpenSSL";
      if (!passes_self_test(*make_openssl_aead(suite), suite)) {
        // Without this one no session can be had at all.
        if (suite == Suite::chacha20_poly1305)
          throw std::runtime_error("OpenSSL's ChaCha20-Poly1305: its self-test failed: wrong bytes");
        chosen.reason = {"self-test-failed", "wrong bytes"};
        continue;
      }
    }
    chosen.available = true;
    chosen.reason = {"self-test-passed", chosen.library};
  }
  return choice;
}

std::string AeadChoice::name() const {
  std::string text;
  for (const Suite suite : {Suite::chacha20_poly1305, Suite::aes_256_gcm})
    if (of(suite).available)
      text += std::string(text.empty() ? "" : ", ") + name_of(suite) + " (" + of(suite).library + ")";
  return text;
}

AeadChoice AeadChoice::without_ipsec_mb() const {
  AeadChoice choice = *this;
  for (SuiteChoice& suite : choice.suites) {
    if (suite.ipsec_mb) suite.library = "OpenSSL";
    suite.ipsec_mb = false;
  }
  return choice;
}

namespace {

/// Packets with known answers for a look at an implementation while it works.
struct SpotCheck {
  struct Packet {
    std::unique_ptr<AeadKey> key;
    std::vector<uint8_t> plain, sealed;
  };
  std::vector<Packet> packets;

  SpotCheck() {
    Key32 bytes;
    bytes.fill(0x35);
    uint64_t id = UINT64_MAX - 3;  // as in the self-test
    for (const Suite suite : {Suite::chacha20_poly1305, Suite::aes_256_gcm})
      for (const size_t size : {size_t{80}, size_t{1420}}) {
        Packet packet{std::make_unique<AeadKey>(suite, bytes, id--), std::vector<uint8_t>(size, 0x5a), {}};
        packet.sealed = reference_seal(*packet.key, size, packet.plain);
        packets.push_back(std::move(packet));
      }
  }
};

}  // namespace

bool Aead::passes_spot_check() {
  static const SpotCheck check;
  constexpr size_t kMost = 4, kRoom = 2048;
  thread_local std::array<std::array<uint8_t, kRoom>, kMost> buffers;
  std::array<AeadJob, kMost> jobs;
  for (size_t i = 0; i < kMost; i++) {
    const SpotCheck::Packet& packet = check.packets[i];
    std::ranges::copy(packet.plain, buffers[i].begin());
    jobs[i] = {packet.key.get(), packet.plain.size(), buffers[i].data(), packet.plain.size(), false};
  }
  seal(jobs);
  for (size_t i = 0; i < kMost; i++)
    if (!jobs[i].ok || !std::ranges::equal(check.packets[i].sealed,
                                           std::span(buffers[i]).first(check.packets[i].sealed.size())))
      return false;
  open(jobs);
  for (size_t i = 0; i < kMost; i++)
    if (!jobs[i].ok || !std::ranges::equal(check.packets[i].plain,
                                           std::span(buffers[i]).first(check.packets[i].plain.size())))
      return false;
  return true;
}

Aead::Aead(const AeadChoice& choice) {
  for (const Suite suite : {Suite::chacha20_poly1305, Suite::aes_256_gcm}) {
    Reason why;
    std::unique_ptr<TransportAead>& made = suites_[static_cast<size_t>(suite)];
    if (choice.of(suite).ipsec_mb) made = make_ipsec_mb_aead(suite, why);
    // Also for a suite that was not agreed on: every suite needs an implementation to look up.
    if (made == nullptr) made = make_openssl_aead(suite);
  }
}

void Aead::run(std::span<AeadJob> jobs, void (TransportAead::*operation)(std::span<AeadJob>)) {
  for (size_t first = 0; first < jobs.size();) {
    const Suite suite = jobs[first].key->suite;
    size_t end = first + 1;
    while (end < jobs.size() && jobs[end].key->suite == suite) end++;
    (suites_[static_cast<size_t>(suite)].get()->*operation)(jobs.subspan(first, end - first));
    first = end;
  }
}

}  // namespace omerta::crypto
