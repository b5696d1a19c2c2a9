// SPDX-License-Identifier: Apache-2.0
#include "inner/fragmentation.h"

#include <algorithm>

namespace omerta::inner {
namespace {

constexpr uint16_t kMoreFragments = 0x2000, kOffsetMask = 0x1fff;
constexpr size_t kUnit = 8;
constexpr uint8_t kEndOfOptions = 0, kNoOption = 1, kCopied = 0x80;
constexpr uint8_t kHopByHop = 0, kRouting = 43, kFragment = 44, kDestination = 60;
constexpr uint16_t kMore6 = 1, kOffset6 = 0xfff8;
constexpr size_t kHeader6 = 40, kFragmentHeader = 8;
constexpr size_t kLongest = UINT16_MAX;  ///< a packet of IPv4; what follows the header of one of IPv6

/// Of the options only those that say so are in every fragment; the others are left to the first.
void blank_uncopied_options(uint8_t* header, size_t size) {
  for (size_t at = 20; at < size && header[at] != kEndOfOptions;) {
    if (header[at] == kNoOption) {
      at++;
      continue;
    }
    const size_t length = at + 1 < size ? header[at + 1] : 0;
    if (length < 2 || at + length > size) return;
    if ((header[at] & kCopied) == 0) std::memset(header + at, kNoOption, length);
    at += length;
  }
}

/// Where what may be fragmented begins: behind the headers that nodes on the way look at (RFC 8200 4.5).
struct Fragmentable {
  size_t at;    ///< 0: the headers do not lie within the packet
  size_t link;  ///< of the byte that says which header is there
};

Fragmentable fragmentable6(const IpView& ip, const uint8_t* packet) {
  Fragmentable found{kHeader6, 6};
  for (Fragmentable seen = found;;) {
    const uint8_t next = packet[seen.link];
    if (next != kHopByHop && next != kRouting && next != kDestination) return found;
    if (seen.at + 8 > ip.length) return {0, 0};
    const size_t size = (size_t{packet[seen.at + 1]} + 1) * 8;
    if (seen.at + size > ip.length) return {0, 0};
    seen = {seen.at + size, seen.at};
    // Options for the destination are looked at on the way only in front of a routing header.
    if (next != kDestination) found = seen;
  }
}

}  // namespace

std::vector<std::vector<uint8_t>> fragment4(const IpView& ip, const uint8_t* packet, size_t mtu) {
  const size_t header = static_cast<size_t>(packet[0] & 15) * 4;
  const uint16_t field = ntohs(load<uint16_t>(packet + 6));
  if (mtu < header + kUnit || (field & kOffsetMask) * kUnit + ip.length > kLongest) return {};
  const size_t most = (mtu - header) / kUnit * kUnit;
  std::vector<std::vector<uint8_t>> fragments;
  for (size_t at = header; at < ip.length; at += most) {
    const size_t size = std::min(most, ip.length - at);
    std::vector<uint8_t>& fragment = fragments.emplace_back(header + size);
    std::memcpy(fragment.data(), packet, header);
    std::memcpy(fragment.data() + header, packet + at, size);
    if (at != header) blank_uncopied_options(fragment.data(), header);
    const bool more = at + size < ip.length || (field & kMoreFragments) != 0;
    const size_t offset = (field & kOffsetMask) + (at - header) / kUnit;
    store(fragment.data() + 2, htons(static_cast<uint16_t>(header + size)));
    store(fragment.data() + 6, htons(static_cast<uint16_t>(offset | (more ? kMoreFragments : 0))));
    store(fragment.data() + 10, uint16_t{0});
    store(fragment.data() + 10, checksum_finish(checksum_add(fragment.data(), header)));
  }
  return fragments;
}

std::vector<std::vector<uint8_t>> fragment6(const IpView& ip, const uint8_t* packet, size_t mtu,
                                            uint32_t identification) {
  if (ip.length <= mtu) return {{packet, packet + ip.length}};
  const auto [header, link] = fragmentable6(ip, packet);
  const bool again = header != 0 && packet[link] == kFragment;
  const size_t begin = again ? header + kFragmentHeader : header;
  if (header == 0 || begin > ip.length || mtu < header + kFragmentHeader + kUnit) return {};
  uint8_t own[kFragmentHeader] = {packet[link]};
  if (again)
    std::memcpy(own, packet + header, sizeof own);
  else
    store(own + 4, identification);
  const uint16_t field = ntohs(load<uint16_t>(own + 2));
  if (header - kHeader6 + (field & kOffset6) + ip.length - begin > kLongest) return {};
  const size_t most = (mtu - header - kFragmentHeader) / kUnit * kUnit;
  std::vector<std::vector<uint8_t>> fragments;
  for (size_t at = begin; at < ip.length; at += most) {
    const size_t size = std::min(most, ip.length - at);
    std::vector<uint8_t>& fragment = fragments.emplace_back(header + kFragmentHeader + size);
    std::memcpy(fragment.data(), packet, header);
    std::memcpy(fragment.data() + header, own, sizeof own);
    std::memcpy(fragment.data() + header + kFragmentHeader, packet + at, size);
    const bool more = at + size < ip.length || (field & kMore6) != 0;
    const size_t offset = (field & kOffset6) + at - begin;
    fragment[link] = kFragment;
    store(fragment.data() + 4, htons(static_cast<uint16_t>(fragment.size() - kHeader6)));
    store(fragment.data() + header + 2, htons(static_cast<uint16_t>(offset | (more ? kMore6 : 0))));
  }
  return fragments;
}

}  // namespace omerta::inner
