// SPDX-License-Identifier: Apache-2.0
// Every AEAD implementation seals what libsodium seals, alone and in batches, and opens nothing else.
#include <sodium.h>

#include <memory>
#include <vector>

#include "check.h"
#include "crypto/aead.h"
#include "crypto/cpu_aes.h"

namespace {

using namespace omerta;
using namespace omerta::crypto;

constexpr Suite kSuites[] = {Suite::chacha20_poly1305, Suite::aes_256_gcm};

void openssl_passes_the_self_test_of_both_suites() {
  for (const Suite suite : kSuites) CHECK(passes_self_test(*make_openssl_aead(suite), suite));
}

void ipsec_mb_passes_the_self_test_of_both_suites_or_says_why_it_is_not_there() {
  for (const Suite suite : kSuites) {
    Reason why;
    const auto aead = make_ipsec_mb_aead(suite, why);
    CHECK(aead != nullptr ? !why.detail.empty() : !why.code.empty());
    if (aead != nullptr) CHECK(passes_self_test(*aead, suite));
  }
}

void one_suite_does_not_pass_the_self_test_of_the_other() {
  CHECK(!passes_self_test(*make_openssl_aead(Suite::chacha20_poly1305), Suite::aes_256_gcm));
  CHECK(!passes_self_test(*make_openssl_aead(Suite::aes_256_gcm), Suite::chacha20_poly1305));
}

/// Corrupts one bit of what another implementation seals, or opens what does not verify.
class BrokenAead final : public TransportAead {
 public:
  enum class Fault { wrong_bit, wrong_tag, opens_anything };
  BrokenAead(Suite suite, Fault fault) : fault_(fault), good_(make_openssl_aead(suite)) {}
  void seal(std::span<AeadJob> jobs) override {
    good_->seal(jobs);
    for (AeadJob& job : jobs) {
      if (fault_ == Fault::wrong_bit && job.size == 1024) job.text[1000] ^= 1;
      if (fault_ == Fault::wrong_tag && job.size == 9000) job.text[9015] ^= 0x80;
    }
  }
  void open(std::span<AeadJob> jobs) override {
    good_->open(jobs);
    if (fault_ == Fault::opens_anything)
      for (AeadJob& job : jobs) job.ok = true;
  }

 private:
  Fault fault_;
  std::unique_ptr<TransportAead> good_;
};

void the_self_test_finds_one_wrong_bit_and_a_tag_that_is_not_checked() {
  for (const Suite suite : kSuites)
    for (auto fault :
         {BrokenAead::Fault::wrong_bit, BrokenAead::Fault::wrong_tag, BrokenAead::Fault::opens_anything}) {
      BrokenAead broken(suite, fault);
      CHECK(!passes_self_test(broken, suite));
    }
}

void every_switch_and_its_reason_show_in_the_choice() {
  const AeadChoice plain = choose_aead({.ipsec_mb = false, .aes_256_gcm = false});
  CHECK(!plain.ipsec_mb() && plain.ipsec_mb_reason.code == "switched-off");
  CHECK(plain.of(Suite::chacha20_poly1305).available);
  CHECK(!plain.of(Suite::aes_256_gcm).available &&
        plain.of(Suite::aes_256_gcm).reason.code == "switched-off");
  CHECK(plain.name() == "ChaCha20-Poly1305 (OpenSSL)");

  const AeadChoice openssl = choose_aead({.ipsec_mb = false, .aes_256_gcm = true});
  CHECK(!openssl.ipsec_mb());
  CHECK(openssl.of(Suite::aes_256_gcm).available == cpu_has_aes());
  CHECK(cpu_has_aes() ? openssl.of(Suite::aes_256_gcm).library == "OpenSSL"
                      : openssl.of(Suite::aes_256_gcm).reason.code == "needs-cpu");

  const AeadChoice best = choose_aead({});
  for (const Suite suite : kSuites) {
    Reason why;
    const bool there = make_ipsec_mb_aead(suite, why) != nullptr;
    if (best.of(suite).available) CHECK(best.of(suite).ipsec_mb == there);
  }
  CHECK(best.ipsec_mb() == (best.ipsec_mb_reason.code == "self-test-passed"));
}

/// Many sessions of both suites in one batch: keys and suites must never be mixed up.
void a_batch_mixes_sessions_and_suites() {
  for (const AeadSwitches switches : {AeadSwitches{}, AeadSwitches{.ipsec_mb = false, .aes_256_gcm = true}}) {
    Aead aead(choose_aead(switches));
    std::vector<std::unique_ptr<AeadKey>> keys;
    for (uint64_t id = 1; id <= 200; id++) {
      Key32 bytes;
      randombytes_buf(bytes.data(), bytes.size());
      keys.push_back(std::make_unique<AeadKey>(kSuites[id % 2], bytes, id));
    }
    std::vector<std::vector<uint8_t>> packets;
    std::vector<AeadJob> jobs;
    for (size_t i = 0; i < 1000; i++) {
      packets.emplace_back(randombytes_uniform(1500) + kAeadTagSize, uint8_t{7});
      const AeadKey& key = *keys[randombytes_uniform(static_cast<uint32_t>(keys.size()))];
      jobs.push_back({&key, i, packets.back().data(), packets.back().size() - kAeadTagSize, false});
    }
    aead.seal(jobs);
    for (size_t i = 0; i < jobs.size(); i++) {
      const AeadKey& key = *jobs[i].key;
      const bool gcm = key.suite == Suite::aes_256_gcm;
      if (gcm && crypto_aead_aes256gcm_is_available() == 0) continue;
      uint8_t nonce[12] = {};
      store(nonce + 4, jobs[i].counter);
      std::vector<uint8_t> plain(jobs[i].size + 1);
      const auto decrypt = gcm ? crypto_aead_aes256gcm_decrypt : crypto_aead_chacha20poly1305_ietf_decrypt;
      CHECK(decrypt(plain.data(), nullptr, nullptr, packets[i].data(), packets[i].size(), nullptr, 0, nonce,
                    key.bytes.data()) == 0);
    }
    aead.open(jobs);
    for (size_t i = 0; i < jobs.size(); i++) {
      bool same = jobs[i].ok;
      for (size_t b = 0; b < jobs[i].size; b++) same &= packets[i][b] == 7;
      CHECK(same);
    }
  }
}

void a_key_is_wiped_at_its_end() {
  Key32 bytes;
  bytes.fill(0x5a);
  alignas(AeadKey) uint8_t memory[sizeof(AeadKey)];
  auto* key = new (memory) AeadKey(Suite::aes_256_gcm, bytes, 1);
  const size_t at = static_cast<size_t>(key->bytes.data() - memory);
  CHECK(memory[at] == 0x5a);
  key->~AeadKey();
  const auto* after = static_cast<const volatile uint8_t*>(memory);
  for (size_t i = 0; i < bytes.size(); i++) CHECK(after[at + i] == 0);
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(openssl_passes_the_self_test_of_both_suites);
  RUN(ipsec_mb_passes_the_self_test_of_both_suites_or_says_why_it_is_not_there);
  RUN(one_suite_does_not_pass_the_self_test_of_the_other);
  RUN(the_self_test_finds_one_wrong_bit_and_a_tag_that_is_not_checked);
  RUN(every_switch_and_its_reason_show_in_the_choice);
  RUN(a_batch_mixes_sessions_and_suites);
  RUN(a_key_is_wiped_at_its_end);
  return omerta::check::finish();
}
