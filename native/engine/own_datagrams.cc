// SPDX-License-Identifier: Apache-2.0
#include "engine/own_datagrams.h"

#include <ifaddrs.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

namespace omerta::engine {
namespace {

std::array<uint8_t, 16> canonical(const void* ip, size_t size) {
  std::array<uint8_t, 16> address{};
  if (size == 4) address[10] = address[11] = 0xff;
  std::memcpy(address.data() + 16 - size, ip, size);
  return address;
}

}  // namespace

uint16_t OwnDatagrams::source_port(const inner::IpView& ip, const uint8_t* packet) {
  constexpr uint8_t kFragment = 44;
  size_t at = 40;
  if (ip.family == 4) {
    const bool first = (ntohs(load<uint16_t>(packet + 6)) & 0x1fff) == 0;
    if (packet[9] != inner::kUdp || !first) return 0;
    at = static_cast<size_t>(packet[0] & 15) * 4;
  } else if (packet[6] == kFragment && ip.length >= 48) {
    const bool first = (ntohs(load<uint16_t>(packet + 42)) & 0xfff8) == 0;
    if (packet[40] != inner::kUdp || !first) return 0;
    at = 48;
  } else if (packet[6] != inner::kUdp) {
    return 0;
  }
  return ip.length < at + 8 ? uint16_t{0} : ntohs(load<uint16_t>(packet + at));
}

bool OwnDatagrams::is_own(const inner::IpView& ip, Nanoseconds now) {
  if (now >= next_look_up_) {
    next_look_up_ = now + kSecond;
    addresses_.clear();
    ifaddrs* list = nullptr;
    if (getifaddrs(&list) != 0) return false;
    for (const ifaddrs* one = list; one != nullptr; one = one->ifa_next) {
      if (one->ifa_addr == nullptr) continue;
      if (one->ifa_addr->sa_family == AF_INET)
        addresses_.push_back(canonical(&reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr, 4));
      else if (one->ifa_addr->sa_family == AF_INET6)
        addresses_.push_back(canonical(&reinterpret_cast<const sockaddr_in6*>(one->ifa_addr)->sin6_addr, 16));
    }
    freeifaddrs(list);
  }
  const auto source = canonical(ip.source, ip.address_size);
  return std::ranges::find(addresses_, source) != addresses_.end();
}

}  // namespace omerta::engine
