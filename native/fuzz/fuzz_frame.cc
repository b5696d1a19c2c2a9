// SPDX-License-Identifier: Apache-2.0
// Any bytes as a datagram through classification, judgement and rewriting over a fixed table.
//
// input: selector u8 · datagram
//   selector bit 7: give the datagram the right tag first, which no mutation would ever guess
//   selector bits 0-1: the source address; bit 2: after the expiry of the leg that expires
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "relay/forwarding_table.h"

namespace {

constexpr uint64_t kExpiry = 5'000'000'000;

void require(bool condition) {
  if (!condition) std::abort();
}

omerta_address source(unsigned which) {
  omerta_address address{};
  if (which < 2) address.ip[10] = address.ip[11] = 0xff;
  address.ip[15] = static_cast<uint8_t>(which);
  address.port = 0x1234;
  return address;
}

omerta_leg make_leg(uint32_t id, uint8_t action) {
  omerta_leg leg{};
  const omerta_address from = source(1);
  leg.leg_id = id;
  leg.action = action;
  leg.key_epoch = id & 0x0f;
  leg.next_key_epoch = 9;
  std::memcpy(leg.source_ip, from.ip, 16);
  leg.source_port = from.port;
  leg.next_leg_id = ~id;
  leg.key[0] = id;
  leg.next_key[0] = ~static_cast<uint64_t>(id);
  return leg;
}

/// The legs of the golden packets' ids, every action among them.
void fill(omerta::relay::ForwardingTable& table) {
  omerta_leg forward = make_leg(0x11223344, OMERTA_LEG_FORWARD);
  forward.key_epoch = 3;
  forward.expires_at = kExpiry;
  omerta_leg limited = make_leg(1, OMERTA_LEG_FORWARD);
  limited.limits = 1;
  limited.identity = 1;
  table.accounts().set_limits(1, {{65536, 0, 1000}, 0, 1 << 20});
  table.accounts().set_rate(omerta::relay::AccountKind::identity, 1, {65536, 100, 100});
  omerta_leg contact = make_leg(OMERTA_CONTACT_LEG, OMERTA_LEG_CONTROL);
  contact.flags = OMERTA_LEG_ANY_SOURCE;
  for (const omerta_leg& leg : {forward, limited, contact, make_leg(0x22, OMERTA_LEG_DELIVER),
                                make_leg(0xffffffff, OMERTA_LEG_CONTROL)})
    require(table.install(leg));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static omerta::relay::ForwardingTable table(8, {2, 1, 2});
  static const bool filled = (fill(table), true);
  require(filled);
  if (size == 0) return 0;
  const uint8_t selector = data[0];
  const auto length = static_cast<uint32_t>(size - 1);
  // Exactly as long as the datagram, so that a read past its end is seen.
  const std::unique_ptr<uint8_t[]> frame(new uint8_t[length]);
  const std::unique_ptr<uint8_t[]> before(new uint8_t[length]);
  if (length != 0) std::memcpy(frame.get(), data + 1, length);

  omerta_leg leg{};
  const bool known = length >= OMERTA_FRAME_MIN_SIZE && table.find(omerta_load32(&frame[4]), leg);
  if ((selector & 0x80) && known) omerta_store64(&frame[8], omerta_frame_tag(leg.key, frame.get(), length));
  if (length != 0) std::memcpy(before.get(), frame.get(), length);

  const omerta_address from = source(selector & 3);
  const uint64_t now = selector & 4 ? kExpiry : kExpiry - 1;
  const omerta::relay::Decision decision = table.judge_datagram(from, frame.get(), length, now);

  require((decision.verdict == OMERTA_DROP) == (decision.reason != OMERTA_DROP_NONE));
  const bool unchanged = length == 0 || std::memcmp(frame.get(), before.get(), length) == 0;
  const bool judged = decision.verdict >= OMERTA_CONTROL;
  if (decision.verdict != OMERTA_FORWARD) require(unchanged);
  if (known) {
    omerta_leg after{};
    require(table.find(leg.leg_id, after));
    require(after.packets == leg.packets + (judged ? 1 : 0));
    require(after.bytes == leg.bytes + (judged ? length : 0));
    if (!judged) require(after.theoretical_arrival == leg.theoretical_arrival);
  }
  if (!judged) return 0;

  // Whatever was accepted was the leg's: its tag, its epoch, its source, in time.
  require(known && decision.leg_id == leg.leg_id);
  require(omerta_load64(&before[8]) == omerta_frame_tag(leg.key, before.get(), length));
  require(before[3] == leg.key_epoch);
  require((leg.flags & OMERTA_LEG_ANY_SOURCE) || (selector & 3) == 1);
  require(leg.expires_at == 0 || now < leg.expires_at);
  require((before[1] == OMERTA_KIND_FORWARD) == (leg.action != OMERTA_LEG_CONTROL));
  if (decision.verdict != OMERTA_FORWARD) return 0;

  // Whatever is sent on is a frame of the next leg, and differs in nothing else.
  require(before[2] >= 2 && frame[2] == before[2] - 1);
  require(frame[0] == before[0] && frame[1] == before[1]);
  require(frame[3] == leg.next_key_epoch && omerta_load32(&frame[4]) == leg.next_leg_id);
  require(omerta_load64(&frame[8]) == omerta_frame_tag(leg.next_key, frame.get(), length));
  require(std::memcmp(&frame[16], &before[16], length - 16) == 0);
  return 0;
}
