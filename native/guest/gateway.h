// SPDX-License-Identifier: Apache-2.0
// The gateway of a virtual machine: what a frame of its is, and what it is answered with. Sans-IO: a frame
// in, a verdict out. A virtual machine has no other neighbour; whatever it says reaches nobody but this, and
// what is passed on is an IP packet from one of its own addresses, which the worker then routes as any other.
//
// IPv4 has the gateway at 169.254.1.1 behind an address without a network (as DHCP tells by RFC 3442), so ARP
// asks for nobody else; IPv6 has it at fe80::1, and no prefix is on-link.
#pragma once

#include <span>

#include "guest/ethernet.h"
#include "guest/verdict.h"

namespace omerta::guest {

struct Decision {
  Verdict verdict;
  std::span<uint8_t> packet = {};  ///< of passed: the IP packet, without what was behind it
  Bytes answer = {};               ///< of answered: a frame, until the next one is judged
};

class Gateway {
 public:
  explicit Gateway(Link link) : link_(std::move(link)) {}

  /// May change the frame.
  Decision judge(std::span<uint8_t> frame);
  /// Whether a packet from the mesh is for the guest. ip: as inner::parse_ip has it, of a whole packet.
  bool is_guests(uint8_t family, const uint8_t* destination) const {
    return family == 4 ? is_one_of(destination, link_.ipv4) : is_one_of(destination, link_.ipv6);
  }
  /// Where names are asked for from now on; at most kMaxNames of each.
  void set_names(std::vector<Ipv4> names4, std::vector<Ipv6> names6);
  /// A router advertisement to whoever listens: names are asked for elsewhere now.
  Bytes advertisement();
  const Link& link() const { return link_; }

  static constexpr size_t kMaxNames = 8;

 private:
  Decision judge_arp(Bytes arp);
  Decision judge_ipv4(std::span<uint8_t> payload, bool to_gateway);
  Decision judge_ipv6(std::span<uint8_t> payload, bool to_gateway);
  Decision judge_discovery(Bytes packet, Bytes message);
  Decision judge_solicitation(const uint8_t* source, Bytes message);
  Decision answer_echo(std::span<uint8_t> packet, size_t header);
  Decision answer_dhcp4(Bytes packet, size_t header);
  Decision answer_dhcp6(Bytes packet, size_t header);
  bool is_own4(const uint8_t* address) const { return is_one_of(address, link_.ipv4); }
  bool is_own6(const uint8_t* address) const { return is_one_of(address, link_.ipv6); }
  Decision answered() const { return {Verdict::answered, {}, answer_}; }
  void write_advertisement(const uint8_t* to, const Mac& station);

  Link link_;
  std::vector<Ipv6> former_names6_;  ///< told to be no resolvers any more
  std::vector<uint8_t> answer_;
};

}  // namespace omerta::guest
