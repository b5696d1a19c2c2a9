// SPDX-License-Identifier: Apache-2.0
#include "inner/fragmentation.h"

#include <algorithm>

namespace omerta::inner {
namespace {

constexpr uint16_t kMoreFragments = 0x2000, kOffsetMask = 0x1fff;
constexpr size_t kUnit = 8;
constexpr uint8_t kEndOfOptions = 0, kNoOption = 1, kCopied = 0x80;

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

}  // namespace

std::vector<std::vector<uint8_t>> fragment4(const IpView& ip, const uint8_t* packet, size_t mtu) {
  const size_t header = static_cast<size_t>(packet[0] & 15) * 4;
  if (mtu < header + kUnit) return {};
  const size_t most = (mtu - header) / kUnit * kUnit;
  const uint16_t field = ntohs(load<uint16_t>(packet + 6));
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

}  // namespace omerta::inner
