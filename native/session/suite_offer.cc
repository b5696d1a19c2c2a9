// SPDX-License-Identifier: Apache-2.0
#include "session/suite_offer.h"

#include <sodium.h>

#include <algorithm>

#include "crypto/blake2s.h"

namespace omerta::session {
namespace {

constexpr uint8_t kControl = 0xC0;
constexpr uint8_t kOfferKind = 4;
constexpr uint8_t kProofKind = 5;
constexpr size_t kHeader = 4;
constexpr size_t kOfferBody = 12;
constexpr size_t kProofBody = 1;

SuiteFrame frame(uint8_t kind, uint16_t length) {
  SuiteFrame out{};
  out[0] = kControl;
  out[1] = kind;
  store(out.data() + 2, length);
  return out;
}

bool has_header(Bytes payload, uint8_t kind, uint16_t length) {
  return payload.size() == kSuiteFrameSize && payload[0] == kControl && payload[1] == kind &&
         load<uint16_t>(payload.data() + 2) == length;
}

bool all_zero(Bytes bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

}  // namespace

SuiteFrame encode_offer(const SuiteOffer& offer, bool have) {
  SuiteFrame out = frame(kOfferKind, kOfferBody);
  out[4] = offer.suites;
  out[5] = have ? 1 : 0;
  store(out.data() + 8, offer.local_index);
  store(out.data() + 12, offer.window);
  return out;
}

SuiteFrame encode_proof(ProofState state) {
  SuiteFrame out = frame(kProofKind, kProofBody);
  out[4] = static_cast<uint8_t>(state);
  return out;
}

std::optional<ReceivedOffer> decode_offer(Bytes payload) {
  if (!has_header(payload, kOfferKind, kOfferBody) || payload[5] > 1 || !all_zero(payload.subspan(6, 2)))
    return std::nullopt;
  const SuiteOffer offer{payload[4], load<uint32_t>(payload.data() + 8), load<uint32_t>(payload.data() + 12)};
  if (offer.local_index == 0 || offer.window < kStandardWindow) return std::nullopt;
  return ReceivedOffer{offer, payload[5] == 1};
}

std::optional<ProofState> decode_proof(Bytes payload) {
  if (!has_header(payload, kProofKind, kProofBody) || payload[4] > 2 ||
      !all_zero(payload.subspan(kHeader + kProofBody)))
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
  std::memcpy(said.data() + 1, encode_offer(initiators_offer, false).data() + kHeader, kOfferBody);
  std::memcpy(said.data() + 1 + kOfferBody, encode_offer(responders_offer, false).data() + kHeader,
              kOfferBody);
  Key32 first, second;
  crypto::kdf(suite_secret, said, &first, &second);
  const TransportKeys keys{initiator ? first : second, initiator ? second : first};
  sodium_memzero(first.data(), first.size());
  sodium_memzero(second.data(), second.size());
  return keys;
}

}  // namespace omerta::session
