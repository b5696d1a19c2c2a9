// SPDX-License-Identifier: Apache-2.0
// Sealing and opening of transport packets by every implementation this machine has, in batches as the
// engine makes them: 46 packets, what a TCP super-packet of 64 KiB becomes at MTU 1420. All take turns,
// round after round, in reverse order every other time; the first round is discarded.
//
//   aead ROUNDS MILLISECONDS     per round and subject; prints one line of JSON
//
// A batch is timed as a whole; of a round counts the median of its batches, so that being descheduled
// in between counts for nothing. "engine" is the dispatch by suite that every batch goes through,
// "libsodium" a packet at a time through its combined functions.
#include <sodium.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <vector>

#include "crypto/aead.h"

namespace {

using namespace omerta;
using namespace omerta::crypto;

constexpr size_t kBatch = 46;
constexpr size_t kManySessions = 1000;

uint64_t now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(t.tv_nsec);
}

class SodiumAead final : public TransportAead {
 public:
  void seal(std::span<AeadJob> jobs) override {
    for (AeadJob& job : jobs) {
      const bool gcm = job.key->suite == Suite::aes_256_gcm;
      store(nonce_ + 4, job.counter);
      (gcm ? crypto_aead_aes256gcm_encrypt : crypto_aead_chacha20poly1305_ietf_encrypt)(
          job.text, nullptr, job.text, job.size, nullptr, 0, nullptr, nonce_, job.key->bytes.data());
      job.ok = true;
    }
  }
  void open(std::span<AeadJob> jobs) override {
    for (AeadJob& job : jobs) {
      const bool gcm = job.key->suite == Suite::aes_256_gcm;
      store(nonce_ + 4, job.counter);
      job.ok = (gcm ? crypto_aead_aes256gcm_decrypt : crypto_aead_chacha20poly1305_ietf_decrypt)(
                   job.text, nullptr, nullptr, job.text, job.size + kAeadTagSize, nullptr, 0, nonce_,
                   job.key->bytes.data()) == 0;
    }
  }

 private:
  uint8_t nonce_[12]{};
};

/// The engine's own, as an implementation among others.
class EngineAead final : public TransportAead {
 public:
  EngineAead() : aead_(choose_aead({})) {}
  void seal(std::span<AeadJob> jobs) override { aead_.seal(jobs); }
  void open(std::span<AeadJob> jobs) override { aead_.open(jobs); }

 private:
  Aead aead_;
};

struct Subject {
  std::string suite;
  std::string implementation;
  std::unique_ptr<TransportAead> aead;
  std::vector<Suite> suites;  ///< of consecutive sessions
};

struct Case {
  Subject* subject;
  size_t size;
  size_t sessions;
  std::vector<double> seal, open;  ///< ns per packet, a value for each round
};

/// Sessions whose keys are spread over memory as those of an engine are.
class Sessions {
 public:
  const AeadKey& key(Suite suite, size_t index) {
    auto& keys = keys_[static_cast<size_t>(suite)];
    while (keys.size() <= index) {
      Key32 bytes;
      randombytes_buf(bytes.data(), bytes.size());
      keys.push_back(std::make_unique<AeadKey>(suite, bytes, ++id_));
    }
    return *keys[index];
  }

 private:
  std::vector<std::unique_ptr<AeadKey>> keys_[kSuiteCount];
  uint64_t id_ = 0;
};

double median(std::vector<uint64_t>& values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                   values.end());
  return static_cast<double>(values[values.size() / 2]) / kBatch;
}

void measure(Case& c, Sessions& sessions, uint64_t milliseconds, bool keep) {
  static uint8_t arena[kBatch * 2048];
  static uint64_t counter = 0;
  std::vector<uint64_t> sealing, opening;
  AeadJob jobs[kBatch];
  size_t session = 0;
  for (const uint64_t end = now() + milliseconds * 1'000'000; now() < end;) {
    for (size_t i = 0; i < kBatch; i++) {
      const Suite suite = c.subject->suites[i % c.subject->suites.size()];
      jobs[i] = {&sessions.key(suite, session), counter++, arena + i * (c.size + kAeadTagSize), c.size,
                 false};
      session = (session + 1) % c.sessions;
    }
    const uint64_t begin = now();
    c.subject->aead->seal(jobs);
    const uint64_t sealed = now();
    c.subject->aead->open(jobs);
    const uint64_t opened = now();
    for (const AeadJob& job : jobs)
      if (!job.ok) {
        std::fprintf(stderr, "%s: what was sealed does not open\n", c.subject->implementation.c_str());
        std::exit(1);
      }
    sealing.push_back(sealed - begin);
    opening.push_back(opened - sealed);
  }
  if (!keep) return;
  c.seal.push_back(median(sealing));
  c.open.push_back(median(opening));
}

std::vector<Subject> subjects() {
  std::vector<Subject> all;
  for (const Suite suite : {Suite::chacha20_poly1305, Suite::aes_256_gcm}) {
    Reason why;
    if (auto ipsec = make_ipsec_mb_aead(suite, why); ipsec != nullptr)
      all.push_back({name_of(suite), "intel-ipsec-mb, " + why.detail, std::move(ipsec), {suite}});
    all.push_back({name_of(suite), "OpenSSL", make_openssl_aead(suite), {suite}});
    if (suite == Suite::chacha20_poly1305 || crypto_aead_aes256gcm_is_available() != 0)
      all.push_back({name_of(suite), "libsodium", std::make_unique<SodiumAead>(), {suite}});
    all.push_back({name_of(suite), "engine", std::make_unique<EngineAead>(), {suite}});
  }
  all.push_back({"both in turn",
                 "engine",
                 std::make_unique<EngineAead>(),
                 {Suite::chacha20_poly1305, Suite::aes_256_gcm}});
  return all;
}

void print(const std::vector<double>& values) {
  for (size_t i = 0; i < values.size(); i++) std::printf("%s%.1f", i == 0 ? "" : ",", values[i]);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 || sodium_init() < 0) {
    std::fputs("aead ROUNDS MILLISECONDS\n", stderr);
    return 2;
  }
  const long rounds = std::atol(argv[1]);
  const auto milliseconds = static_cast<uint64_t>(std::atol(argv[2]));
  std::vector<Subject> all = subjects();
  std::vector<Case> cases;
  for (Subject& subject : all)
    for (const auto& [size, sessions] : {std::pair<size_t, size_t>{64, 1}, {1420, 1}, {1420, kManySessions}})
      cases.push_back({&subject, size, sessions, {}, {}});
  Sessions sessions;
  for (long round = 0; round <= rounds; round++) {
    for (size_t i = 0; i < cases.size(); i++)
      measure(cases[round % 2 == 0 ? i : cases.size() - 1 - i], sessions, milliseconds, round > 0);
  }
  std::printf("[");
  for (size_t i = 0; i < cases.size(); i++) {
    const Case& c = cases[i];
    std::printf("%s{\"suite\":\"%s\",\"implementation\":\"%s\",\"size\":%zu,\"sessions\":%zu,\"seal\":[",
                i == 0 ? "" : ",", c.subject->suite.c_str(), c.subject->implementation.c_str(), c.size,
                c.sessions);
    print(c.seal);
    std::printf("],\"open\":[");
    print(c.open);
    std::printf("]}");
  }
  std::printf("]\n");
}
