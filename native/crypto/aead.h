// SPDX-License-Identifier: Apache-2.0
// AEAD for transport packets, in place and in batches. The nonce is four zero bytes and the 64-bit
// counter, little-endian, in both suites; there is no associated data; the tag has 16 bytes.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>

#include "common/reason.h"
#include "crypto/aead_key.h"

namespace omerta::crypto {

inline constexpr size_t kAeadTagSize = 16;

/// One packet to seal or open. `text` is changed in place; seal writes the tag after it, open expects it
/// there.
struct AeadJob {
  const AeadKey* key;
  uint64_t counter;
  uint8_t* text;
  size_t size;
  bool ok;
};

/// One suite by one library, with whatever it keeps between calls; one per thread.
class TransportAead {
 public:
  virtual ~TransportAead() = default;
  /// Sets ok on every job; sealing fails only when the library does.
  virtual void seal(std::span<AeadJob> jobs) = 0;
  /// ok tells whether the packet verified; if not, its bytes are undefined.
  virtual void open(std::span<AeadJob> jobs) = 0;
};

/// Runs everywhere.
std::unique_ptr<TransportAead> make_openssl_aead(Suite suite);
/// Intel's multi-buffer library, loaded when it is there. nullptr, and `why` says why, when the library or
/// the CPU's AVX2 is missing; else `why.detail` names the instructions it uses.
std::unique_ptr<TransportAead> make_ipsec_mb_aead(Suite suite, Reason& why);

/// Seals and opens packets of many sizes and compares with libsodium (AES-256-GCM: and with published
/// vectors, and with OpenSSL where libsodium has none), bit flips included.
bool passes_self_test(TransportAead& aead, Suite suite);

struct AeadSwitches {
  bool ipsec_mb = true;
  bool aes_256_gcm = true;
};

/// What does the work of one suite in this process.
struct SuiteChoice {
  bool available = false;
  bool ipsec_mb = false;
  std::string library;  ///< e.g. "intel-ipsec-mb, AVX-512"
  Reason reason = {};   ///< why it is available, or why it is not
};

struct AeadChoice {
  std::array<SuiteChoice, kSuiteCount> suites;
  Reason ipsec_mb_reason = {};  ///< why intel-ipsec-mb is in use, or why it is not
  const SuiteChoice& of(Suite suite) const { return suites[static_cast<size_t>(suite)]; }
  bool ipsec_mb() const { return suites[0].ipsec_mb || suites[1].ipsec_mb; }
  /// For people: both suites and what does them.
  std::string name() const;
  /// The same suites without intel-ipsec-mb.
  AeadChoice without_ipsec_mb() const;
};

/// The fastest implementation of each suite that passes its self-test here.
AeadChoice choose_aead(AeadSwitches switches);

/// Every suite behind one call: a batch may mix sessions and suites. One per thread.
class Aead {
 public:
  explicit Aead(const AeadChoice& choice);
  void seal(std::span<AeadJob> jobs) { run(jobs, &TransportAead::seal); }
  void open(std::span<AeadJob> jobs) { run(jobs, &TransportAead::open); }
  /// Seals and opens a few packets with known answers; a few microseconds. false: wrong bytes.
  bool passes_spot_check();

 private:
  void run(std::span<AeadJob> jobs, void (TransportAead::*operation)(std::span<AeadJob>));
  std::array<std::unique_ptr<TransportAead>, kSuiteCount> suites_;
};

}  // namespace omerta::crypto
