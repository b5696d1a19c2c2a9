// SPDX-License-Identifier: Apache-2.0
#include "session/suite_offer.h"

#include <sodium.h>

#include <algorithm>

#include "crypto/blake2s.h"

namespace omerta::session {
namespace {

constexpr size_t kOfferBody = 12;
constexpr size_t kProofBody = 1;

SuiteFrame frame(ControlKind kind, size_t length) {
  SuiteFrame out{};
  write_control_header(out.data(), kind, length);
  return out;
}

bool is_frame(Bytes payload, ControlKind kind, size_t length) {
  return payload.size() == kSuiteFrameSize && has_control_header(payload, kind, length);
}

}  // namespace

SuiteFrame encode_offer(const SuiteOffer& offer, bool have) {
  SuiteFrame out = frame(ControlKind::suite_offer, kOfferBody);
  out[4] = offer.suites;
  out[5] = have ? 1 : 0;
  store(out.data() + 8, offer.local_index);
  store(out.data() + 12, offer.window);
  return out;
}

SuiteFrame encode_proof(ProofState state) {
  SuiteFrame out = frame(ControlKind::suite_proof, kProofBody);
  out[4] = static_cast<uint8_t>(state);
  return out;
}

std::optional<ReceivedOffer> decode_offer(Bytes payload) {
  if (!is_frame(payload, ControlKind::suite_offer, kOfferBody) || payload[5] > 1 ||
      !all_zero(payload.subspan(6, 2)))
    return std::nullopt;
  const SuiteOffer offer{payload[4], load<uint32_t>(payload.data() + 8), load<uint32_t>(payload.data() + 12)};
  if (offer.local_index == 0 || offer.window < kStandardWindow) return std::nullopt;
  return ReceivedOffer{offer, payload[5] == 1};
}

std::optional<ProofState> decode_proof(Bytes payload) {
  if (!is_frame(payload, ControlKind::suite_proof, kProofBody) || payload[4] > 2 ||
      !all_zero(payload.subspan(kControlHeaderSize + kProofBody)))
    return std::nullopt;
  return static_cast<ProofState>(payload[4]);
}

std::optional<crypto::Suite> common_suite(uint8_t a, uint8_t b) {
  for (const crypto::Suite suite : {crypto::Suite::aes_256_gcm, crypto::Suite::chacha20_poly1305})
    if ((a & b & suite_bit(suite)) != 0) return suite;
  return std::nullopt;
}

TransportKeys derive_suite_keys(const Key32& suite_secret, crypto::Suite suite,
                                const SuiteOffer& initiators_offer, const SuiteOffer& responders_offer,
                                bool initiator) {
  std::array<uint8_t, 1 + 2 * kOfferBody> said;
  said[0] = static_cast<uint8_t>(suite);
  // Without `have`, which differs between repetitions of one offer.
  std::memcpy(said.data() + 1, encode_offer(initiators_offer, false).data() + kControlHeaderSize, kOfferBody);
  std::memcpy(said.data() + 1 + kOfferBody, encode_offer(responders_offer, false).data() + kControlHeaderSize,
              kOfferBody);
  Key32 first, second;
  crypto::kdf(suite_secret, said, &first, &second);
  const TransportKeys keys{initiator ? first : second, initiator ? second : first};
  sodium_memzero(first.data(), first.size());
  sodium_memzero(second.data(), second.size());
  return keys;
}

}  // namespace omerta::session
