// SPDX-License-Identifier: Apache-2.0
// Every AEAD implementation seals what libsodium seals, alone and in batches, and opens nothing else.
#include <sodium.h>

#include <vector>

#include "check.h"
#include "crypto/aead.h"

namespace {

using namespace omerta;
using namespace omerta::crypto;

void openssl_passes_the_self_test() { CHECK(passes_self_test(*make_openssl_aead())); }

void ipsec_mb_passes_the_self_test_or_says_why_it_is_not_there() {
  std::string reason;
  const auto aead = make_ipsec_mb_aead(reason);
  CHECK(!reason.empty());
  if (aead != nullptr) CHECK(passes_self_test(*aead));
}

/// Corrupts one bit of what another implementation seals, or opens what does not verify.
class BrokenAead final : public TransportAead {
 public:
  enum class Fault { wrong_bit, wrong_tag, opens_anything };
  explicit BrokenAead(Fault fault) : fault_(fault) {}
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
  std::unique_ptr<TransportAead> good_ = make_openssl_aead();
};

void the_self_test_finds_one_wrong_bit_and_a_tag_that_is_not_checked() {
  for (auto fault :
       {BrokenAead::Fault::wrong_bit, BrokenAead::Fault::wrong_tag, BrokenAead::Fault::opens_anything}) {
    BrokenAead broken(fault);
    CHECK(!passes_self_test(broken));
  }
}

void the_switch_and_its_reason_show_in_the_choice() {
  const AeadChoice off = choose_aead(false);
  CHECK(!off.ipsec_mb && off.reason == "switched off");
  CHECK(off.name.find("OpenSSL") != std::string::npos);
  std::string reason;
  const bool there = make_ipsec_mb_aead(reason) != nullptr;
  CHECK(choose_aead(true).ipsec_mb == there);
  CHECK(passes_self_test(*make_aead(choose_aead(true))));
}

/// Many sessions share one thread's contexts: keys must never be mixed up.
void keys_that_alternate_are_kept_apart() {
  std::string reason;
  std::vector<std::unique_ptr<TransportAead>> all;
  all.push_back(make_openssl_aead());
  if (auto ipsec = make_ipsec_mb_aead(reason); ipsec != nullptr) all.push_back(std::move(ipsec));
  std::vector<Key32> keys(200);
  for (Key32& key : keys) randombytes_buf(key.data(), key.size());
  for (auto& aead : all) {
    std::vector<std::vector<uint8_t>> packets;
    std::vector<AeadJob> jobs;
    for (size_t i = 0; i < 1000; i++) {
      packets.emplace_back(randombytes_uniform(1500) + kAeadTagSize, uint8_t{7});
      const size_t k = randombytes_uniform(static_cast<uint32_t>(keys.size()));
      jobs.push_back(
          {&keys[k], k + 1, i, packets.back().data(), packets.back().size() - kAeadTagSize, false});
    }
    aead->seal(jobs);
    for (size_t i = 0; i < jobs.size(); i++) {
      uint8_t nonce[12] = {};
      store(nonce + 4, jobs[i].counter);
      std::vector<uint8_t> plain(jobs[i].size + 1);
      CHECK(crypto_aead_chacha20poly1305_ietf_decrypt(plain.data(), nullptr, nullptr, packets[i].data(),
                                                      packets[i].size(), nullptr, 0, nonce,
                                                      jobs[i].key->data()) == 0);
    }
    aead->open(jobs);
    for (size_t i = 0; i < jobs.size(); i++) {
      bool same = jobs[i].ok;
      for (size_t b = 0; b < jobs[i].size; b++) same &= packets[i][b] == 7;
      CHECK(same);
    }
  }
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(openssl_passes_the_self_test);
  RUN(ipsec_mb_passes_the_self_test_or_says_why_it_is_not_there);
  RUN(the_self_test_finds_one_wrong_bit_and_a_tag_that_is_not_checked);
  RUN(the_switch_and_its_reason_show_in_the_choice);
  RUN(keys_that_alternate_are_kept_apart);
  return omerta::check::finish();
}
