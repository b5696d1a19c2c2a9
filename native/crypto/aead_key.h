// SPDX-License-Identifier: Apache-2.0
// A transport key of one session in one direction, with what can be computed from it once.
#pragma once

#include <memory>

#include "common/bytes.h"
#include "crypto/suite.h"

namespace omerta::crypto {

/// intel-ipsec-mb's round keys and powers of the hash key: about 1 KiB, wiped when freed.
struct GcmSchedule;
struct FreeGcmSchedule {
  void operator()(GcmSchedule* schedule) const;
};
/// nullptr where intel-ipsec-mb is not there.
std::unique_ptr<GcmSchedule, FreeGcmSchedule> expand_gcm_key(const Key32& key);

/// Immutable, so that every thread may use it at once; wiped at its end. The schedule lies with the key
/// and not in a cache of each thread: it is found without a look-up and gone when the session is.
class AeadKey {
 public:
  /// `id` names the session in this process and is never used again; both directions of it have the same.
  AeadKey(Suite suite, const Key32& bytes, uint64_t id);
  ~AeadKey();
  AeadKey(const AeadKey&) = delete;
  AeadKey& operator=(const AeadKey&) = delete;

  const Suite suite;
  const uint64_t id;
  const Key32 bytes;
  const std::unique_ptr<GcmSchedule, FreeGcmSchedule> gcm_schedule;  ///< AES-256-GCM only
};

}  // namespace omerta::crypto
