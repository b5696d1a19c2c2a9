// SPDX-License-Identifier: Apache-2.0
// ICMP answers to any packet of a guest, and whether it is mail: a whole packet with the right checksums from
// the address that was asked for, never an answer to what may have none, and never more than every host must
// take.
//
// input: selector u8 · MTU u16 · packet
//   selector bit 0: make version and length agree with the packet, which no mutation would keep right
//   selector bit 1: IPv6 instead of IPv4
//   selector bit 2: for the port of mail, by TCP
#include "fuzz/fuzz_input.h"
#include "fuzz/plain_checksum.h"
#include "inner/icmp_error.h"

using namespace omerta;
using namespace omerta::inner;
using omerta::fuzz::require;

namespace {

bool unicast(const uint8_t* address, bool v4) {
  if (v4) {
    const bool broadcast = address[0] == 255 && address[1] == 255 && address[2] == 255 && address[3] == 255;
    return address[0] != 0 && address[0] < 224 && !broadcast;
  }
  bool any = false;
  for (size_t i = 0; i < 16; i++) any = any || address[i] != 0;
  return any && address[0] != 0xff;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  const uint8_t selector = input.byte();
  const size_t mtu = static_cast<size_t>(input.byte()) << 8 | input.byte();
  std::vector<uint8_t> packet = input.bytes(UINT16_MAX);
  if ((selector & 1) && packet.size() >= 40) {
    const bool v6 = (selector & 2) != 0;
    packet[0] = static_cast<uint8_t>(v6 ? 0x60 | (packet[0] & 15) : 0x40 | (packet[0] & 15));
    const size_t length = v6 ? packet.size() - 40 : packet.size();
    const size_t at = v6 ? 4 : 2;
    packet[at] = static_cast<uint8_t>(length >> 8);
    packet[at + 1] = static_cast<uint8_t>(length);
    const size_t transport = v6 ? 40 : static_cast<size_t>(packet[0] & 15) * 4;
    if ((selector & 4) && packet.size() >= transport + 4) {
      packet[v6 ? 6 : 9] = kTcp;
      packet[transport + 2] = 0;
      packet[transport + 3] = 25;
    }
  }
  const IpView ip = parse_ip(packet.data(), packet.size());
  const std::vector<uint8_t> answer = icmp_unreachable(ip, packet.data());
  if (ip.family == 0) {
    require(answer.empty());
    return 0;
  }
  const bool v4 = ip.family == 4;
  const size_t header = v4 ? static_cast<size_t>(packet[0] & 15) * 4 : 40;
  const uint8_t protocol = packet[v4 ? 9 : 6];
  const bool later_fragment = v4 && ((packet[6] & 0x1f) != 0 || packet[7] != 0);
  const bool to_port_25 = ip.length >= header + 4 && packet[header + 2] == 0 && packet[header + 3] == 25;
  require(is_mail(packet.data(), ip) == (protocol == kTcp && !later_fragment && to_port_25));
  const bool icmp = protocol == (v4 ? 1 : 58);
  const bool query =
      icmp && ip.length > header && (v4 ? packet[header] == 0 || packet[header] == 8 : packet[header] >= 128);
  const bool may =
      !later_fragment && (!icmp || query) && unicast(ip.source, v4) && unicast(ip.destination, v4);
  require(answer.empty() == !may);
  const std::vector<uint8_t> too_big = icmp_too_big(ip, packet.data(), mtu);
  require(too_big.empty() == !(may && dont_fragment(ip, packet.data())));
  if (answer.empty()) return 0;

  const size_t own_header = v4 ? 20 : 40;
  require(answer.size() <= (v4 ? 576 : 1280) && answer.size() <= packet.size() + own_header + 8);
  std::vector<uint8_t> copy = answer;
  const IpView said = parse_ip(copy.data(), copy.size());
  require(said.family == ip.family && said.length == answer.size());
  require(std::memcmp(said.source, ip.destination, ip.address_size) == 0);
  require(std::memcmp(said.destination, ip.source, ip.address_size) == 0);
  require(answer[v4 ? 9 : 6] == (v4 ? 1 : 58) && answer[own_header] == (v4 ? 3 : 1));
  const size_t quoted = answer.size() - own_header - 8;
  require(std::memcmp(answer.data() + own_header + 8, packet.data(), quoted) == 0);
  require(quoted == ip.length || answer.size() == (v4 ? 576u : 1280u));
  if (v4) {
    require(fuzz::plain_sum(answer.data(), 20) == 0xffff);
    require(fuzz::plain_sum(answer.data() + 20, answer.size() - 20) == 0xffff);
  } else {
    require(fuzz::plain_transport_sum(answer.data(), 40, answer.size(), 58) == 0xffff);
  }
  return 0;
}
