// SPDX-License-Identifier: Apache-2.0
// Packets are cut into fragments that make them again.
#include "inner/fragmentation.h"

#include <algorithm>

#include "check.h"
#include "super_packets.h"

namespace {

using namespace omerta;
using namespace omerta::inner;
using namespace omerta::test;

/// The packet that fragments make, in whatever order they come.
std::vector<uint8_t> reassembled(const std::vector<std::vector<uint8_t>>& fragments, size_t header) {
  std::vector<uint8_t> whole(fragments.at(0).begin(), fragments[0].begin() + static_cast<ptrdiff_t>(header));
  for (const std::vector<uint8_t>& fragment : fragments) {
    const size_t at = header + static_cast<size_t>(ntohs(load<uint16_t>(fragment.data() + 6)) & 0x1fff) * 8;
    whole.resize(std::max(whole.size(), at + fragment.size() - header));
    std::memcpy(whole.data() + at, fragment.data() + header, fragment.size() - header);
  }
  return whole;
}

void fragments_are_whole_packets_no_longer_than_wanted_and_make_the_packet_again() {
  for (const size_t payload : {size_t{600}, size_t{1392}, size_t{5000}}) {
    SuperPacket p = make(4, kUdp, payload, 0);
    p.bytes[6] = 0;
    for (const size_t mtu : {size_t{68}, size_t{576}, size_t{1380}}) {
      const auto fragments = fragment4(parse_ip(p.bytes.data(), p.bytes.size()), p.bytes.data(), mtu);
      for (const std::vector<uint8_t>& fragment : fragments) {
        std::vector<uint8_t> copy = fragment;
        CHECK(parse_ip(copy.data(), copy.size()).length == fragment.size() && fragment.size() <= mtu);
        CHECK(checksum_finish(checksum_add(fragment.data(), 20)) == 0);
        CHECK(((fragment[6] & 0x20) != 0) == (&fragment != &fragments.back()));
      }
      const std::vector<uint8_t> whole = reassembled(fragments, 20);
      CHECK(std::equal(whole.begin() + 20, whole.end(), p.bytes.begin() + 20, p.bytes.end()));
      CHECK(load<uint16_t>(fragments[0].data() + 4) == load<uint16_t>(p.bytes.data() + 4));
    }
  }
  // One of them that is fragmented again goes on where it was.
  SuperPacket p = make(4, kUdp, 5000, 0);
  p.bytes[6] = 0;
  auto first = fragment4(parse_ip(p.bytes.data(), p.bytes.size()), p.bytes.data(), 1380);
  std::vector<std::vector<uint8_t>> all;
  for (auto& fragment : first)
    for (auto& piece : fragment4(parse_ip(fragment.data(), fragment.size()), fragment.data(), 600))
      all.push_back(piece);
  for (const auto& piece : all) CHECK(((piece[6] & 0x20) != 0) == (&piece != &all.back()));
  const std::vector<uint8_t> whole = reassembled(all, 20);
  CHECK(std::equal(whole.begin() + 20, whole.end(), p.bytes.begin() + 20, p.bytes.end()));
  CHECK(fragment4(parse_ip(p.bytes.data(), p.bytes.size()), p.bytes.data(), 27).empty());
}

/// The packet that IPv6 fragments make, without the header that each has.
std::vector<uint8_t> reassembled6(const std::vector<std::vector<uint8_t>>& fragments, size_t header) {
  std::vector<uint8_t> whole(fragments.at(0).begin(), fragments[0].begin() + static_cast<ptrdiff_t>(header));
  for (const std::vector<uint8_t>& fragment : fragments) {
    const size_t at = header + (ntohs(load<uint16_t>(fragment.data() + header + 2)) & 0xfff8);
    whole.resize(std::max(whole.size(), at + fragment.size() - header - 8));
    std::memcpy(whole.data() + at, fragment.data() + header + 8, fragment.size() - header - 8);
  }
  return whole;
}

void an_ipv6_packet_is_fragmented_behind_the_headers_that_are_looked_at_on_the_way() {
  SuperPacket p = make(6, kUdp, 1200, 0);
  for (const bool options : {false, true}) {
    std::vector<uint8_t> packet = p.bytes;
    if (options) {
      // A hop-by-hop header in front, options for the destination behind it.
      const uint8_t headers[24] = {60, 0, 1, 4, 0, 0, 0, 0, kUdp, 1, 1, 12};
      packet.insert(packet.begin() + 40, headers, headers + sizeof headers);
      packet[6] = 0;
      store(packet.data() + 4, htons(static_cast<uint16_t>(packet.size() - 40)));
    }
    const size_t header = options ? 48 : 40;
    const size_t link = options ? 40 : 6;
    for (const size_t mtu : {size_t{476}, size_t{1196}, size_t{1220}}) {
      const IpView ip = parse_ip(packet.data(), packet.size());
      const auto fragments = fragment6(ip, packet.data(), mtu, 0x01020304);
      CHECK(fragments.size() >= 2);
      for (const std::vector<uint8_t>& fragment : fragments) {
        std::vector<uint8_t> copy = fragment;
        CHECK(parse_ip(copy.data(), copy.size()).length == fragment.size() && fragment.size() <= mtu);
        CHECK(fragment[link] == 44 && fragment[header] == packet[link]);
        CHECK(load<uint32_t>(fragment.data() + header + 4) == 0x01020304);
        CHECK(((fragment[header + 3] & 1) != 0) == (&fragment != &fragments.back()));
      }
      const std::vector<uint8_t> whole = reassembled6(fragments, header);
      CHECK(std::equal(whole.begin() + static_cast<ptrdiff_t>(header), whole.end(),
                       packet.begin() + static_cast<ptrdiff_t>(header), packet.end()));
      // One of them that is fragmented again goes on where it was, as the same packet.
      std::vector<std::vector<uint8_t>> all;
      for (std::vector<uint8_t> fragment : fragments)
        for (auto& piece : fragment6(parse_ip(fragment.data(), fragment.size()), fragment.data(), 300, 9))
          all.push_back(piece);
      for (const auto& piece : all) CHECK(load<uint32_t>(piece.data() + header + 4) == 0x01020304);
      const std::vector<uint8_t> again = reassembled6(all, header);
      CHECK(std::equal(again.begin() + static_cast<ptrdiff_t>(header), again.end(),
                       packet.begin() + static_cast<ptrdiff_t>(header), packet.end()));
      CHECK(((all.back()[header + 3] & 1) == 0) && (all.front()[header + 3] & 1) == 1);
    }
  }
  // The last of a super-packet may be short enough: no fragment header is added then (RFC 8021).
  CHECK(fragment6(parse_ip(p.bytes.data(), p.bytes.size()), p.bytes.data(), p.bytes.size(), 1) ==
        std::vector<std::vector<uint8_t>>{p.bytes});
  CHECK(fragment6(parse_ip(p.bytes.data(), p.bytes.size()), p.bytes.data(), 55, 1).empty());
  p.bytes[6] = 0;
  p.bytes[41] = 255;  // a header longer than the packet
  CHECK(fragment6(parse_ip(p.bytes.data(), p.bytes.size()), p.bytes.data(), 1000, 1).empty());
}

void options_that_are_not_to_be_copied_are_in_the_first_fragment_alone() {
  std::vector<uint8_t> packet(32 + 400);
  packet[0] = 0x48;
  store(packet.data() + 2, htons(static_cast<uint16_t>(packet.size())));
  const uint8_t options[12] = {0x83, 3, 4, 0x44, 4, 5, 0, 1, 0x07, 3, 4, 0};  // copied, not, no option, not
  std::memcpy(packet.data() + 20, options, sizeof options);
  const auto fragments = fragment4(parse_ip(packet.data(), packet.size()), packet.data(), 200);
  CHECK(fragments.size() == 3);
  CHECK(std::memcmp(fragments[0].data() + 20, options, sizeof options) == 0);
  const uint8_t left[12] = {0x83, 3, 4, 1, 1, 1, 1, 1, 1, 1, 1, 0};
  for (size_t i = 1; i < fragments.size(); i++)
    CHECK(std::memcmp(fragments[i].data() + 20, left, sizeof left) == 0 &&
          checksum_finish(checksum_add(fragments[i].data(), 32)) == 0);
}

void a_fragment_that_reaches_beyond_the_longest_packet_is_not_cut() {
  SuperPacket p = make(4, kUdp, 1000, 0);
  const auto pieces4 = [&](size_t offset) {
    store(p.bytes.data() + 6, htons(static_cast<uint16_t>(offset / 8)));
    return fragment4(parse_ip(p.bytes.data(), p.bytes.size()), p.bytes.data(), 576).size();
  };
  // 65,535 bytes with the header, and one unit more.
  const size_t last4 = (65'535 - p.bytes.size()) / 8 * 8;
  CHECK(pieces4(last4) == 2 && pieces4(last4 + 8) == 0 && pieces4(8 * 0x1fff) == 0);
  SuperPacket q = make(6, kUdp, 1400, 0);
  q.bytes[6] = 44;
  const auto pieces6 = [&](size_t offset) {
    store(q.bytes.data() + 42, htons(static_cast<uint16_t>(offset)));
    return fragment6(parse_ip(q.bytes.data(), q.bytes.size()), q.bytes.data(), 1280, 1).size();
  };
  // The same without the header and the one that fragments have.
  const size_t last6 = (65'535 - (q.bytes.size() - 48)) / 8 * 8;
  CHECK(pieces6(last6) == 2 && pieces6(last6 + 8) == 0 && pieces6(0xfff8) == 0);
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(fragments_are_whole_packets_no_longer_than_wanted_and_make_the_packet_again);
  RUN(an_ipv6_packet_is_fragmented_behind_the_headers_that_are_looked_at_on_the_way);
  RUN(options_that_are_not_to_be_copied_are_in_the_first_fragment_alone);
  RUN(a_fragment_that_reaches_beyond_the_longest_packet_is_not_cut);
  return omerta::check::finish();
}
