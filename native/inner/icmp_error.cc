// SPDX-License-Identifier: Apache-2.0
#include "inner/icmp_error.h"

#include <algorithm>

namespace omerta::inner {
namespace {

constexpr uint8_t kIcmp = 1, kIcmpv6 = 58;
/// No answer is larger than what every host must take (RFC 1122 3.3.2, RFC 8200 5).
constexpr size_t kLargestAnswer4 = 576, kLargestAnswer6 = 1280;

struct Error {
  uint8_t type;
  uint8_t code;
  uint32_t field = 0;  ///< of the four bytes before the quoted packet, network byte order
};

bool unicast4(const uint8_t* a) {
  static constexpr uint8_t broadcast[4] = {255, 255, 255, 255};
  return a[0] != 0 && a[0] < 224 && std::memcmp(a, broadcast, 4) != 0;
}

bool unicast6(const uint8_t* a) {
  static constexpr uint8_t unspecified[16] = {};
  return a[0] != 0xff && std::memcmp(a, unspecified, 16) != 0;
}

std::vector<uint8_t> error4(const IpView& ip, const uint8_t* packet, const Error& error) {
  const size_t header = static_cast<size_t>(packet[0] & 15) * 4;
  const bool later_fragment = (ntohs(load<uint16_t>(packet + 6)) & 0x1fff) != 0;
  // Only echo requests and replies and the other queries may be answered, never an error.
  const bool icmp_error =
      packet[9] == kIcmp && (ip.length <= header || (packet[header] != 0 && packet[header] != 8));
  if (later_fragment || icmp_error || !unicast4(ip.source) || !unicast4(ip.destination)) return {};
  const size_t quoted = std::min(ip.length, kLargestAnswer4 - 28);
  std::vector<uint8_t> out(28 + quoted);
  out[0] = 0x45;
  store(out.data() + 2, htons(static_cast<uint16_t>(out.size())));
  out[8] = 64;
  out[9] = kIcmp;
  std::memcpy(out.data() + 12, ip.destination, 4);
  std::memcpy(out.data() + 16, ip.source, 4);
  store(out.data() + 10, checksum_finish(checksum_add(out.data(), 20)));
  out[20] = error.type;
  out[21] = error.code;
  store(out.data() + 24, error.field);
  std::memcpy(out.data() + 28, packet, quoted);
  store(out.data() + 22, checksum_finish(checksum_add(out.data() + 20, out.size() - 20)));
  return out;
}

std::vector<uint8_t> error6(const IpView& ip, const uint8_t* packet, const Error& error) {
  const bool icmp_error = packet[6] == kIcmpv6 && (ip.length <= 40 || packet[40] < 128);
  if (icmp_error || !unicast6(ip.source) || !unicast6(ip.destination)) return {};
  const size_t quoted = std::min(ip.length, kLargestAnswer6 - 48);
  std::vector<uint8_t> out(48 + quoted);
  out[0] = 0x60;
  store(out.data() + 4, htons(static_cast<uint16_t>(out.size() - 40)));
  out[6] = kIcmpv6;
  out[7] = 64;
  std::memcpy(out.data() + 8, ip.destination, 16);
  std::memcpy(out.data() + 24, ip.source, 16);
  out[40] = error.type;
  out[41] = error.code;
  store(out.data() + 44, error.field);
  std::memcpy(out.data() + 48, packet, quoted);
  const IpView answer{6, 16, out.data() + 8, out.data() + 24, out.size()};
  const size_t size = out.size() - 40;
  store(out.data() + 42,
        checksum_finish(checksum_add(out.data() + 40, size, pseudo_header_sum(answer, kIcmpv6, size))));
  return out;
}

}  // namespace

std::vector<uint8_t> icmp_unreachable(const IpView& ip, const uint8_t* packet, Unreachable why) {
  static constexpr uint8_t kCode4[] = {1, 3, 13}, kCode6[] = {3, 4, 1};
  const auto index = static_cast<size_t>(why);
  if (ip.family == 4) return error4(ip, packet, {.type = 3, .code = kCode4[index]});
  if (ip.family == 6) return error6(ip, packet, {.type = 1, .code = kCode6[index]});
  return {};
}

std::vector<uint8_t> icmp_too_big(const IpView& ip, const uint8_t* packet, size_t mtu) {
  const auto field = htonl(static_cast<uint32_t>(mtu));
  if (ip.family == 6) return error6(ip, packet, {.type = 2, .code = 0, .field = field});
  if (ip.family != 4 || !dont_fragment(ip, packet)) return {};
  return error4(ip, packet, {.type = 3, .code = 4, .field = field});
}

}  // namespace omerta::inner
