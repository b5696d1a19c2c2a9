// SPDX-License-Identifier: Apache-2.0
#include "stack/segment.h"

namespace omerta::stack {
namespace {

constexpr uint8_t kEndOfOptions = 0, kNoOperation = 1, kMss = 2, kWindowScale = 3, kSackPermitted = 4,
                  kSack = 5, kTimestamps = 8;
constexpr size_t kHeader = 20;

uint32_t load32(const uint8_t* at) { return ntohl(load<uint32_t>(at)); }
void store32(uint8_t* at, uint32_t value) { store(at, htonl(value)); }

void parse_option(uint8_t kind, const uint8_t* value, size_t size, Segment& out) {
  switch (kind) {
    case kMss:
      if (size == 2 && out.has(kSyn)) out.mss = ntohs(load<uint16_t>(value));
      break;
    case kWindowScale:
      // More than 14 counts as 14 (RFC 7323 2.3).
      if (size == 1 && out.has(kSyn)) out.window_shift = std::min(value[0], kMaxWindowShift);
      break;
    case kSackPermitted:
      if (size == 0 && out.has(kSyn)) out.sack_permitted = true;
      break;
    case kSack:
      out.sack_count = 0;
      for (size_t at = 0; at + 8 <= size && out.sack_count < kMaxSackBlocks; at += 8)
        out.sacks[out.sack_count++] = {load32(value + at), load32(value + at + 4)};
      break;
    case kTimestamps:
      if (size == 8) out.timestamps = Timestamps{load32(value), load32(value + 4)};
      break;
    default:
      break;
  }
}

bool parse_options(const uint8_t* options, size_t size, Segment& out) {
  for (size_t at = 0; at < size;) {
    const uint8_t kind = options[at];
    if (kind == kEndOfOptions) return true;
    if (kind == kNoOperation) {
      at++;
      continue;
    }
    if (at + 2 > size) return false;
    const size_t length = options[at + 1];
    if (length < 2 || at + length > size) return false;
    parse_option(kind, options + at + 2, length - 2, out);
    at += length;
  }
  return true;
}

/// Each of them is filled up to four bytes, so that what follows lies well.
uint8_t* write_options(uint8_t* at, const Segment& segment) {
  if (segment.mss.has_value()) {
    at[0] = kMss;
    at[1] = 4;
    store(at + 2, htons(*segment.mss));
    at += 4;
  }
  if (segment.window_shift.has_value()) {
    const uint8_t option[4] = {kNoOperation, kWindowScale, 3, *segment.window_shift};
    std::memcpy(at, option, 4);
    at += 4;
  }
  if (segment.sack_permitted) {
    const uint8_t option[4] = {kNoOperation, kNoOperation, kSackPermitted, 2};
    std::memcpy(at, option, 4);
    at += 4;
  }
  if (segment.timestamps.has_value()) {
    const uint8_t option[4] = {kNoOperation, kNoOperation, kTimestamps, 10};
    std::memcpy(at, option, 4);
    store32(at + 4, segment.timestamps->value);
    store32(at + 8, segment.timestamps->echo);
    at += 12;
  }
  if (segment.sack_count != 0) {
    const uint8_t option[4] = {kNoOperation, kNoOperation, kSack,
                               static_cast<uint8_t>(2 + 8 * segment.sack_count)};
    std::memcpy(at, option, 4);
    at += 4;
    for (size_t i = 0; i < segment.sack_count; i++, at += 8) {
      store32(at, segment.sacks[i].begin);
      store32(at + 4, segment.sacks[i].end);
    }
  }
  return at;
}

}  // namespace

bool parse_segment(const PacketView& packet, Segment& out) {
  const uint8_t* tcp = packet.data + packet.transport;
  const size_t together = std::min(packet.together - packet.transport, packet.body.size());
  if (together < kHeader) return false;
  const size_t header = static_cast<size_t>(tcp[12] >> 4) * 4;
  if (header < kHeader || header > together) return false;
  out = {};
  out.flow.local = address_of(packet.ip.destination, packet.ip.address_size);
  out.flow.remote = address_of(packet.ip.source, packet.ip.address_size);
  out.flow.remote_port = ntohs(load<uint16_t>(tcp));
  out.flow.local_port = ntohs(load<uint16_t>(tcp + 2));
  out.sequence = load32(tcp + 4);
  out.acknowledgment = load32(tcp + 8);
  out.flags = tcp[13];
  out.window = ntohs(load<uint16_t>(tcp + 14));
  out.ecn = packet.ecn;
  out.payload = packet.body;
  out.payload.drop_front(header);
  out.segment_size = packet.segment_size;
  return parse_options(tcp + kHeader, header - kHeader, out);
}

size_t option_bytes(const Segment& segment) {
  return (segment.mss.has_value() ? 4U : 0U) + (segment.window_shift.has_value() ? 4U : 0U) +
         (segment.sack_permitted ? 4U : 0U) + (segment.timestamps.has_value() ? 12U : 0U) +
         (segment.sack_count != 0 ? 4 + 8 * segment.sack_count : 0);
}

size_t write_segment(uint8_t* out, const Segment& segment, size_t payload, size_t mss,
                     inner::VirtioNetHeader& header) {
  const size_t tcp_header = kHeader + option_bytes(segment);
  const Flow& flow = segment.flow;
  const size_t ip = write_ip(out, flow, inner::kTcp, tcp_header + payload, segment.ecn);
  uint8_t* tcp = out + ip;
  store(tcp, htons(flow.local_port));
  store(tcp + 2, htons(flow.remote_port));
  store32(tcp + 4, segment.sequence);
  store32(tcp + 8, segment.acknowledgment);
  tcp[12] = static_cast<uint8_t>(tcp_header / 4 << 4);
  tcp[13] = segment.flags;
  store(tcp + 14, htons(segment.window));
  store(tcp + 16, inner::checksum_fold(pseudo_sum(flow, inner::kTcp, tcp_header + payload)));
  store(tcp + 18, uint16_t{0});
  write_options(tcp + kHeader, segment);
  header = {};
  header.flags = inner::kNeedsChecksum;
  header.checksum_start = static_cast<uint16_t>(ip);
  header.checksum_offset = 16;
  if (payload > mss) {
    header.gso_type = flow.ipv4() ? inner::kGsoTcp4 : inner::kGsoTcp6;
    if (segment.has(kCwr)) header.gso_type |= inner::kGsoEcn;
    header.gso_size = static_cast<uint16_t>(mss);
    header.header_length = static_cast<uint16_t>(ip + tcp_header);
  }
  return ip + tcp_header;
}

}  // namespace omerta::stack
