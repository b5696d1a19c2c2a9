// SPDX-License-Identifier: Apache-2.0
#include <sodium.h>

#include <algorithm>
#include <vector>

#include "crypto/aead.h"

namespace omerta::crypto {
namespace {

/// Sizes around block and vector boundaries, and those that packets have.
constexpr size_t kSizes[] = {0,   1,    15,   16,   17,   31,   32,   63,   64,   65,
                             127, 128,  129,  191,  192,  255,  256,  257,  511,  512,
                             513, 1000, 1023, 1024, 1025, 1280, 1400, 1420, 1421, 9000};

}  // namespace

bool passes_self_test(TransportAead& aead) {
  Key32 keys[2];
  keys[0].fill(0x42);
  for (size_t i = 0; i < 32; i++) keys[1][i] = static_cast<uint8_t>(i * 7);
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
      uint8_t nonce[12] = {};
      store(nonce + 4, counter);
      p.sealed.resize(size + kAeadTagSize);
      crypto_aead_chacha20poly1305_ietf_encrypt(p.sealed.data(), nullptr, p.plain.data(), size, nullptr, 0,
                                                nullptr, nonce, keys[k].data());
      p.buffer = p.plain;
      p.buffer.resize(size + kAeadTagSize);
      packets.push_back(std::move(p));
      // Ids that no session has: sessions count up from 1.
      jobs.push_back({&keys[k], UINT64_MAX - k, counter, nullptr, size, false});
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

AeadChoice choose_aead(bool allow_ipsec_mb) {
  AeadChoice choice;
  choice.name = "ChaCha20-Poly1305 (OpenSSL)";
  if (!allow_ipsec_mb) {
    choice.reason = "switched off";
    return choice;
  }
  std::string reason;
  const std::unique_ptr<TransportAead> candidate = make_ipsec_mb_aead(reason);
  if (candidate == nullptr) {
    choice.reason = reason;
    return choice;
  }
  if (!passes_self_test(*candidate)) {
    choice.reason = "its self-test failed: wrong bytes";
    return choice;
  }
  choice.ipsec_mb = true;
  choice.name = "ChaCha20-Poly1305 (intel-ipsec-mb, " + reason + ")";
  choice.reason = "self-test passed, " + reason;
  return choice;
}

std::unique_ptr<TransportAead> make_aead(const AeadChoice& choice) {
  std::string reason;
  if (choice.ipsec_mb)
    if (std::unique_ptr<TransportAead> aead = make_ipsec_mb_aead(reason); aead != nullptr) return aead;
  return make_openssl_aead();
}

}  // namespace omerta::crypto
