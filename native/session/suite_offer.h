// SPDX-License-Identifier: Apache-2.0
// Suites: the two control frames by which our nodes agree, inside an established session, on another
// cipher and a wider replay window, and the keys that follow from it (docs/protocol.md, "Suites").
//
//   offer   C0 04 | 12 00 | suites u8 | have u8 | zero u16 | receiver index u32 | window u32
//   proof   C0 05 | 01 00 | state u8 | zero, 11
//
// Both fill one block of 16, so that padding adds nothing. Pure functions over explicit values.
#pragma once

#include <array>
#include <optional>

#include "crypto/suite.h"
#include "session/control_frame.h"
#include "session/noise.h"
#include "session/replay_window.h"

namespace omerta::session {

/// WireGuard's window, and between our nodes: 74 ms of path skew at 10 Gbit/s in packets of 1,420 bytes.
inline constexpr size_t kStandardWindow = ReplayWindow::kDefaultSize;
inline constexpr size_t kWideWindow = 65'472;

inline constexpr size_t kSuiteFrameSize = 16;
using SuiteFrame = std::array<uint8_t, kSuiteFrameSize>;

inline constexpr uint8_t suite_bit(crypto::Suite suite) {
  return static_cast<uint8_t>(1u << static_cast<unsigned>(suite));
}

/// What one side is ready for: said once for a session, repeated only as it was.
struct SuiteOffer {
  uint8_t suites = 0;        ///< suite_bit of each the sender can seal and open; unknown bits mean nothing
  uint32_t local_index = 0;  ///< receiver index of the sender's new keys, not 0
  uint32_t window = 0;       ///< how far behind the greatest a counter may be for the sender

  bool operator==(const SuiteOffer&) const = default;
};

/// How far the sender of a proof is.
enum class ProofState : uint8_t {
  made = 0,     ///< it has the new keys
  opened = 1,   ///< and opened something under them
  settled = 2,  ///< and knows that its peer did
};

/// `have`: the receiver's own offer has arrived.
SuiteFrame encode_offer(const SuiteOffer& offer, bool have);
SuiteFrame encode_proof(ProofState state);

struct ReceivedOffer {
  SuiteOffer offer;
  bool have;
};
/// nullopt: not an offer, or one that breaks a rule of its layout.
std::optional<ReceivedOffer> decode_offer(Bytes payload);
std::optional<ProofState> decode_proof(Bytes payload);
/// Whether a payload says of itself to be one of the two; it is then nobody else's.
inline bool is_suite_frame(Bytes payload) {
  return is_control_frame(payload, ControlKind::suite_offer, ControlKind::suite_proof);
}

/// The best suite both can do; nullopt when there is none.
std::optional<crypto::Suite> common_suite(uint8_t a, uint8_t b);

/// Keys under which a session goes on. Made of its own secret and of all that was said, so that two
/// sides that understood each other differently have different keys.
TransportKeys derive_suite_keys(const Key32& suite_secret, crypto::Suite suite,
                                const SuiteOffer& initiators_offer, const SuiteOffer& responders_offer,
                                bool initiator);

}  // namespace omerta::session
