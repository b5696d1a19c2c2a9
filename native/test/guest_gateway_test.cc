// SPDX-License-Identifier: Apache-2.0
// The gateway of a virtual machine: what it passes on, what it answers, and that all else is dropped by its
// kind.
#include <functional>

#include "check.h"
#include "guest/gateway.h"
#include "guest_frames.h"

using namespace omerta;
using namespace omerta::guest;
using namespace omerta::test;

namespace {

constexpr Mac kBroadcast{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, kGroup6{0x33, 0x33, 0, 0, 0, 1};
constexpr Ipv4 kNone4{}, kAll4{255, 255, 255, 255};
constexpr Ipv6 kAllNodes6{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
constexpr Ipv6 kAllRouters6{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};

struct Judged {
  Verdict verdict;
  Frame packet;  ///< what is passed on
  Frame answer;
};

Judged judge(Gateway& gateway, Frame frame) {
  const Decision decision = gateway.judge(frame);
  return {decision.verdict,
          {decision.packet.begin(), decision.packet.end()},
          {decision.answer.begin(), decision.answer.end()}};
}

Judged judge(const Frame& frame) {
  Gateway gateway(guest_link());
  return judge(gateway, frame);
}

bool is(Verdict verdict, const Frame& frame) {
  const Judged judged = judge(frame);
  return judged.verdict == verdict && (verdict == Verdict::passed) == !judged.packet.empty() &&
         (verdict == Verdict::answered) == !judged.answer.empty();
}

Frame v4(const Frame& packet, const Mac& to = kGatewayMac) { return ethernet(to, kTypeIpv4, packet); }
Frame v6(const Frame& packet, const Mac& to = kGatewayMac) { return ethernet(to, kTypeIpv6, packet); }

Frame solicitation(const Ipv6& target) {
  Frame message{135, 0, 0, 0, 0, 0, 0, 0};
  message.insert(message.end(), target.begin(), target.end());
  return message;
}

void its_own_packets_pass_without_what_is_behind_them() {
  const Frame packet = ipv4_packet(kGuest4, kMember4, 17, udp(1000, 2000, {1, 2, 3}));
  Frame padded = v4(packet);
  padded.resize(60);
  CHECK(judge(padded).verdict == Verdict::passed && judge(padded).packet == packet);
  const Frame longer = ipv6_packet(kGuest6, kMember6, 6, Frame(1360), 64);
  CHECK(judge(v6(longer)).verdict == Verdict::passed && judge(v6(longer)).packet == longer);
  CHECK(is(Verdict::passed, v4(ipv4_packet(kGuest4, {8, 8, 8, 8}, 1, {8, 0, 0, 0, 0, 0, 0, 0}))));
  CHECK(is(Verdict::passed, v4(ipv4_packet(kGuest4, kMember4, 17, Frame(1376), 0x2000))));  // first fragment
  CHECK(is(Verdict::passed, v4(ipv4_packet(kGuest4, kMember4, 17, Frame(100), 0x00ac))));   // the last one
  CHECK(is(Verdict::passed,
           v6(ipv6_packet(kGuest6, kMember6, 44, Frame{17, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1}))));
}

void another_station_is_told_apart() {
  const Frame packet = ipv4_packet(kGuest4, kMember4, 17, udp(1, 2, {}));
  CHECK(
      is(Verdict::spoofed_mac, ethernet(kGatewayMac, kTypeIpv4, packet, {0x52, 0x54, 0, 0x12, 0x34, 0x57})));
  CHECK(is(Verdict::other_station, v4(packet, {0x52, 0x54, 0, 1, 1, 1})));
  CHECK(is(Verdict::other_station, v4(packet, kBroadcast)));  // to a member, and to all
  CHECK(is(Verdict::other_station, v6(ipv6_packet(kGuest6, kMember6, 17, udp(1, 2, {})), kGroup6)));
  CHECK(is(Verdict::other_type, ethernet(kGatewayMac, 0x8100, Frame(50))));
  CHECK(is(Verdict::other_type, ethernet(kBroadcast, 0x0026, Frame(50))));  // 802.3: a length
  CHECK(is(Verdict::malformed, Frame(13)));
}

void addresses_it_was_not_given_are_spoofed() {
  for (const Ipv4& from : {kMember4, Ipv4{10, 0, 0, 1}, kGatewayIpv4, kNone4, Ipv4{127, 0, 0, 1}})
    CHECK(is(Verdict::spoofed_ip, v4(ipv4_packet(from, kMember4, 17, udp(1, 2, {})))));
  for (const Ipv6& from : {kMember6, kNobody6, kGatewayIpv6})
    CHECK(is(Verdict::spoofed_ip, v6(ipv6_packet(from, kMember6, 17, udp(1, 2, {})))));
  CHECK(is(Verdict::spoofed_ip,
           v4(ipv4_packet(kMember4, kAll4, 17, udp(68, 67, dhcp({53, 1, 1}))), kBroadcast)));
  CHECK(is(Verdict::spoofed_ip,
           v6(icmpv6_packet(kMember6, kAllRouters6, {133, 0, 0, 0, 0, 0, 0, 0}), kGroup6)));
}

void what_is_no_packet_is_malformed() {
  const Frame good = ipv4_packet(kGuest4, kMember4, 17, udp(1, 2, {}));
  const auto spoiled = [&](const std::function<void(Frame&)>& how) {
    Frame packet = good;
    how(packet);
    return is(Verdict::malformed, v4(packet));
  };
  CHECK(spoiled([](Frame& p) { p.resize(19); }));
  CHECK(spoiled([](Frame& p) { p[0] = 0x55; }));
  CHECK(spoiled([](Frame& p) { p[0] = 0x44; }));
  CHECK(spoiled([](Frame& p) { put_word(&p[2], 200); }));
  CHECK(spoiled([](Frame& p) { p[8]--; }));  // its checksum
  CHECK(is(Verdict::malformed, v4(ipv4_packet(kGuest4, {127, 0, 0, 1}, 17, udp(1, 2, {})))));
  CHECK(is(Verdict::malformed, v4(ipv4_packet(kGuest4, kNone4, 17, udp(1, 2, {})))));
  CHECK(is(Verdict::malformed, v4({})));
  Frame six = ipv6_packet(kGuest6, kMember6, 17, udp(1, 2, {}));
  six[0] = 0x50;
  CHECK(is(Verdict::malformed, v6(six)));
  six[0] = 0x60;
  six[5]++;
  CHECK(is(Verdict::malformed, v6(six)));
  CHECK(is(Verdict::malformed, v6(Frame(39, 0x60))));
  CHECK(is(Verdict::malformed, v6(ipv6_packet(kGuest6, kNobody6, 17, udp(1, 2, {})))));
  CHECK(is(Verdict::malformed, v6(ipv6_packet(kGuest6, kMember6, 0, {17, 9, 0, 0, 0, 0, 0, 0}))));
  Frame chain;
  for (int i = 0; i < 9; i++) chain.insert(chain.end(), {60, 0, 0, 0, 0, 0, 0, 0});
  CHECK(is(Verdict::malformed, v6(ipv6_packet(kGuest6, kMember6, 60, chain))));
  CHECK(is(Verdict::malformed, v6(ipv6_packet(kGuest6, kMember6, 60, {17, 0, 0}))));
  // A super-packet of another family than its frame's.
  CHECK(is(Verdict::malformed, ethernet(kGatewayMac, kTypeIpv6, good)));
}

void what_is_longer_than_it_was_told_goes_nowhere() {
  CHECK(is(Verdict::passed, v4(ipv4_packet(kGuest4, kMember4, 17, Frame(1380)))));
  CHECK(is(Verdict::oversized, v4(ipv4_packet(kGuest4, kMember4, 17, Frame(1381)))));
  CHECK(is(Verdict::oversized, v6(ipv6_packet(kGuest6, kMember6, 17, Frame(1361)))));
  CHECK(is(Verdict::oversized, v4(ipv4_packet(kGuest4, kMember4, 17, Frame(65000)))));
}

void fragments_no_system_makes_are_dropped() {
  const auto fragment = [](uint8_t protocol, size_t size, uint16_t field) {
    return is(Verdict::fragment, v4(ipv4_packet(kGuest4, kMember4, protocol, Frame(size), field)));
  };
  CHECK(fragment(17, 100, 0x2000));  // no multiple of eight, and more to come
  CHECK(fragment(17, 0, 0x2001));
  CHECK(fragment(17, 100, 0x1fff));  // beyond 65,535 together
  CHECK(fragment(6, 16, 0x2000));    // half a TCP header, and the rest
  CHECK(fragment(6, 800, 0x0001));
  CHECK(fragment(17, 800, 0xa000));  // the reserved bit
  const auto fragment6 = [](size_t size, uint16_t field) {
    Frame body{17, 0, static_cast<uint8_t>(field >> 8), static_cast<uint8_t>(field), 0, 0, 0, 1};
    body.resize(8 + size);
    return is(Verdict::fragment, v6(ipv6_packet(kGuest6, kMember6, 44, body)));
  };
  CHECK(fragment6(9, 1));
  CHECK(fragment6(0, 1));
  CHECK(fragment6(16, 0xfff8));
}

void arp_finds_the_gateway_alone() {
  const Judged found = judge(ethernet(kBroadcast, kTypeArp, arp(1, kGuest4, kGatewayIpv4)));
  CHECK(found.verdict == Verdict::answered && found.answer.size() == 42);
  CHECK(equals(&found.answer[0], kGuestMac) && equals(&found.answer[6], kGatewayMac));
  CHECK(word(&found.answer[12]) == kTypeArp && word(&found.answer[20]) == 2);
  CHECK(equals(&found.answer[22], kGatewayMac) && equals(&found.answer[28], kGatewayIpv4));
  CHECK(equals(&found.answer[32], kGuestMac) && equals(&found.answer[38], kGuest4));
  for (const Ipv4& other : {kMember4, Ipv4{100, 64, 1, 3}, Ipv4{192, 168, 1, 1}})
    CHECK(is(Verdict::arp_scan, ethernet(kBroadcast, kTypeArp, arp(1, kGuest4, other))));
  CHECK(is(Verdict::noise, ethernet(kBroadcast, kTypeArp, arp(1, kGuest4, kGuest4))));
  CHECK(is(Verdict::noise, ethernet(kBroadcast, kTypeArp, arp(1, kNone4, kGuest4))));
  CHECK(is(Verdict::noise, ethernet(kGatewayMac, kTypeArp, arp(2, kGuest4, kGatewayIpv4))));
  CHECK(is(Verdict::spoofed_ip, ethernet(kBroadcast, kTypeArp, arp(2, kGatewayIpv4, kGatewayIpv4))));
  CHECK(is(Verdict::spoofed_mac, ethernet(kBroadcast, kTypeArp, arp(1, kGuest4, kGatewayIpv4, kGatewayMac))));
  CHECK(is(Verdict::malformed, ethernet(kBroadcast, kTypeArp, arp(3, kGuest4, kGatewayIpv4))));
  Frame short_one = arp(1, kGuest4, kGatewayIpv4);
  short_one.pop_back();
  CHECK(is(Verdict::malformed, ethernet(kBroadcast, kTypeArp, short_one)));
}

void neighbour_discovery_finds_the_gateway_alone() {
  const Judged found =
      judge(v6(icmpv6_packet(kLinkLocal6, kGatewayIpv6, solicitation(kGatewayIpv6)), kGroup6));
  CHECK(found.verdict == Verdict::answered && sums_up(found.answer));
  CHECK(found.answer[54] == 136 && (found.answer[58] & 0xe0) == 0xe0 &&
        equals(&found.answer[62], kGatewayIpv6));
  CHECK(found.answer[78] == 2 && equals(&found.answer[80], kGatewayMac) &&
        equals(&found.answer[38], kLinkLocal6));
  const Judged probed = judge(v6(icmpv6_packet(kNobody6, kGatewayIpv6, solicitation(kGatewayIpv6)), kGroup6));
  CHECK(probed.verdict == Verdict::answered && equals(&probed.answer[38], kAllNodes6) &&
        sums_up(probed.answer));
  CHECK(is(Verdict::noise, v6(icmpv6_packet(kNobody6, kAllNodes6, solicitation(kLinkLocal6)), kGroup6)));
  CHECK(is(Verdict::noise, v6(icmpv6_packet(kNobody6, kAllNodes6, solicitation(kGuest6)), kGroup6)));
  for (const Ipv6& other : {kMember6, Ipv6{0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9}})
    CHECK(is(Verdict::neighbour_scan, v6(icmpv6_packet(kGuest6, kAllNodes6, solicitation(other)), kGroup6)));
  CHECK(is(
      Verdict::neighbour_scan,
      v6(ipv6_packet(kGuest6, {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9}, 17, udp(1, 2, {})))));
  CHECK(
      is(Verdict::malformed, v6(icmpv6_packet(kLinkLocal6, kGatewayIpv6, solicitation(kGatewayIpv6), 254))));
  CHECK(is(Verdict::malformed, v6(icmpv6_packet(kLinkLocal6, kGatewayIpv6, {135, 0, 0, 0, 0, 0, 0, 0}))));
  Frame wrong = v6(icmpv6_packet(kLinkLocal6, kGatewayIpv6, solicitation(kGatewayIpv6)));
  wrong[60] ^= 1;
  CHECK(is(Verdict::malformed, wrong));
  CHECK(
      is(Verdict::malformed, v6(icmpv6_packet(kLinkLocal6, kAllNodes6, Frame(24, 136)), kGroup6)));  // a code
  Frame advertisement = solicitation(kGuest6);
  advertisement[0] = 136;
  CHECK(is(Verdict::noise, v6(icmpv6_packet(kGuest6, kAllNodes6, advertisement), kGroup6)));
  for (const uint8_t kind : {uint8_t{134}, uint8_t{137}})
    CHECK(is(Verdict::router,
             v6(icmpv6_packet(kLinkLocal6, kAllNodes6, {kind, 0, 0, 0, 0, 0, 0, 0}), kGroup6)));
}

/// Where an option of a router advertisement is; 0: nowhere.
size_t option_at(const Frame& frame, uint8_t kind, size_t from = 70) {
  for (size_t at = from; at + 8 <= frame.size() && frame[at + 1] != 0; at += size_t{8} * frame[at + 1])
    if (frame[at] == kind) return at;
  return 0;
}

void routers_are_solicited() {
  Gateway gateway(guest_link());
  const Frame asks = v6(icmpv6_packet(kLinkLocal6, kAllRouters6, {133, 0, 0, 0, 0, 0, 0, 0}), kGroup6);
  Judged found = judge(gateway, asks);
  CHECK(found.verdict == Verdict::answered && sums_up(found.answer) && found.answer[54] == 134);
  CHECK(equals(&found.answer[38], kLinkLocal6) && equals(&found.answer[22], kGatewayIpv6));
  CHECK((found.answer[59] & 0x80) != 0 && word(&found.answer[60]) == 1800);  // addresses by DHCPv6
  CHECK(double_word(&found.answer[option_at(found.answer, 5) + 4]) == 1400);
  CHECK(option_at(found.answer, 25) == 0 && option_at(found.answer, 3) == 0);
  gateway.set_names({}, {kMember6});
  const Bytes told = gateway.advertisement();
  const Frame unasked(told.begin(), told.end());
  const size_t names = option_at(unasked, 25);
  CHECK(names != 0 && equals(&unasked[names + 8], kMember6) && double_word(&unasked[names + 4]) == 1800);
  CHECK(equals(&unasked[38], kAllNodes6) && unasked[0] == 0x33 && sums_up(unasked));
  gateway.set_names({}, {});
  found = judge(gateway, asks);
  const size_t former = option_at(found.answer, 25);
  CHECK(former != 0 && double_word(&found.answer[former + 4]) == 0 &&
        equals(&found.answer[former + 8], kMember6));
  CHECK(
      is(Verdict::answered, v6(icmpv6_packet(kNobody6, kAllRouters6, {133, 0, 0, 0, 0, 0, 0, 0}), kGroup6)));
  CHECK(is(Verdict::malformed, v6(icmpv6_packet(kNobody6, kAllRouters6, {133, 0, 0, 0, 0, 0, 0}), kGroup6)));
}

/// The value of an option of DHCP; empty: it is not there.
Frame dhcp_option(const Frame& frame, uint8_t kind) {
  for (size_t at = 14 + 28 + 240; at + 2 <= frame.size() && frame[at] != 255; at += size_t{2} + frame[at + 1])
    if (frame[at] == kind)
      return {frame.begin() + static_cast<ptrdiff_t>(at + 2),
              frame.begin() + static_cast<ptrdiff_t>(at + 2 + frame[at + 1])};
  return {};
}

Frame dhcp_frame(const Frame& options, const Ipv4& from = kNone4, const Ipv4& client = {},
                 const Mac& mac = kGuestMac) {
  const bool renews = from != kNone4;
  return v4(ipv4_packet(from, renews ? kGatewayIpv4 : kAll4, 17, udp(68, 67, dhcp(options, client, mac))),
            renews ? kGatewayMac : kBroadcast);
}

const Frame kGiven{100, 64, 1, 2}, kRouterGiven{169, 254, 1, 1};

void dhcp_gives_its_address() {
  Gateway gateway(guest_link());
  gateway.set_names({kMember4}, {});
  const Judged offer = judge(gateway, dhcp_frame({53, 1, 1}));
  CHECK(offer.verdict == Verdict::answered && sums_up(offer.answer));
  CHECK(equals(&offer.answer[0], kGuestMac) && equals(&offer.answer[30], kAll4));
  CHECK(word(&offer.answer[34]) == 67 && word(&offer.answer[36]) == 68);
  CHECK(offer.answer[42] == 2 && offer.answer[46] == 0xab && equals(&offer.answer[58], kGuest4));
  CHECK(dhcp_option(offer.answer, 53) == Frame{2} && dhcp_option(offer.answer, 54) == kRouterGiven);
  CHECK(dhcp_option(offer.answer, 3) == kRouterGiven && dhcp_option(offer.answer, 1) == Frame(4, 255));
  CHECK((dhcp_option(offer.answer, 121) == Frame{32, 169, 254, 1, 1, 0, 0, 0, 0, 0, 169, 254, 1, 1}));
  CHECK((dhcp_option(offer.answer, 26) == Frame{0x05, 0x78} &&
         dhcp_option(offer.answer, 6) == Frame{100, 70, 0, 9}));
  const Judged given = judge(gateway, dhcp_frame({53, 1, 3, 50, 4, 100, 64, 1, 2, 54, 4, 169, 254, 1, 1}));
  CHECK(dhcp_option(given.answer, 53) == Frame{5} && (dhcp_option(given.answer, 51) == Frame{0, 0, 0, 120}));
  const Judged other = judge(gateway, dhcp_frame({53, 1, 3, 50, 4, 10, 0, 0, 1}));
  CHECK(dhcp_option(other.answer, 53) == Frame{6} && equals(&other.answer[58], kNone4));
  const Judged renewed = judge(gateway, dhcp_frame({53, 1, 3}, kGuest4, kGuest4));
  CHECK(dhcp_option(renewed.answer, 53) == Frame{5} && equals(&renewed.answer[30], kGuest4));
  CHECK(dhcp_option(judge(gateway, dhcp_frame({53, 1, 3}, kNone4, kMember4)).answer, 53) == Frame{6});
  const Judged informed = judge(gateway, dhcp_frame({0, 53, 1, 8}, kGuest4, kGuest4));
  CHECK(dhcp_option(informed.answer, 53) == Frame{5} && dhcp_option(informed.answer, 51).empty());
  gateway.set_names({}, {});
  const Judged without = judge(gateway, dhcp_frame({53, 1, 1}));
  CHECK(dhcp_option(without.answer, 6).empty() && (dhcp_option(without.answer, 51) == Frame{0, 0, 0, 20}));
}

void dhcp_of_others_is_dropped() {
  CHECK(is(Verdict::noise, dhcp_frame({53, 1, 7}, kGuest4, kGuest4)));  // a release
  CHECK(is(Verdict::noise, dhcp_frame({53, 1, 4})));
  CHECK(is(Verdict::dhcp, dhcp_frame({53, 1, 3, 54, 4, 10, 0, 0, 1})));       // another server's
  CHECK(is(Verdict::dhcp, dhcp_frame({53, 1, 2})));                           // an offer of its own
  CHECK(is(Verdict::dhcp, dhcp_frame({53, 1, 1}, kNone4, {}, kGatewayMac)));  // for another machine
  CHECK(is(Verdict::dhcp, dhcp_frame({})));
  CHECK(is(Verdict::dhcp, dhcp_frame({53, 9, 1})));
  CHECK(is(Verdict::dhcp, v4(ipv4_packet(kNone4, kAll4, 17, udp(68, 67, Frame(239))), kBroadcast)));
  CHECK(is(Verdict::dhcp, v4(ipv4_packet(kNone4, kAll4, 17, udp(68, 67, Frame(300))), kBroadcast)));
  Frame cut = udp(68, 67, dhcp({53, 1, 1}));
  cut[4] = 9;
  CHECK(is(Verdict::malformed, v4(ipv4_packet(kNone4, kAll4, 17, cut), kBroadcast)));
  Link link = guest_link();
  link.ipv4.clear();
  Gateway without(link);
  CHECK(judge(without, dhcp_frame({53, 1, 1})).verdict == Verdict::dhcp);
}

Frame option6(uint16_t code, const Frame& value) {
  Frame out(4);
  put_word(&out[0], code);
  put_word(&out[2], value.size());
  out.insert(out.end(), value.begin(), value.end());
  return out;
}

constexpr Ipv6 kDhcpServers6{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2};

Frame dhcp6_frame(uint8_t type, const std::vector<Frame>& options, const Ipv6& from = kLinkLocal6) {
  Frame message{type, 1, 2, 3};
  for (const Frame& option : options) message.insert(message.end(), option.begin(), option.end());
  return v6(ipv6_packet(from, kDhcpServers6, 17, udp(546, 547, message)), kGroup6);
}

/// The value of an option of a DHCPv6 answer; empty: it is not there.
Frame dhcp6_option(const Frame& frame, uint16_t code) {
  for (size_t at = 14 + 48 + 4; at + 4 <= frame.size(); at += size_t{4} + word(&frame[at + 2]))
    if (word(&frame[at]) == code)
      return {frame.begin() + static_cast<ptrdiff_t>(at + 4),
              frame.begin() + static_cast<ptrdiff_t>(at + 4 + word(&frame[at + 2]))};
  return {};
}

void dhcpv6_gives_its_address() {
  const Frame client = option6(1, {0, 3, 0, 1, 9, 9}),
              association = option6(3, Frame{7, 7, 7, 7, 0, 0, 0, 0, 0, 0, 0, 0});
  Gateway gateway(guest_link());
  gateway.set_names({}, {kMember6});
  const Judged offered = judge(gateway, dhcp6_frame(1, {client, association}));
  CHECK(offered.verdict == Verdict::answered && sums_up(offered.answer));
  CHECK(offered.answer[62] == 2 && offered.answer[63] == 1 && offered.answer[65] == 3);
  CHECK(equals(&offered.answer[38], kLinkLocal6) && word(&offered.answer[56]) == 546);
  CHECK((dhcp6_option(offered.answer, 1) == Frame{0, 3, 0, 1, 9, 9}));
  const Frame given = dhcp6_option(offered.answer, 3);
  CHECK(given.size() == 40 && given[0] == 7 && double_word(&given[4]) == 60 && word(&given[12]) == 5);
  CHECK(equals(&given[16], kGuest6) && double_word(&given[32]) == 120 && double_word(&given[36]) == 120);
  CHECK((dhcp6_option(offered.answer, 23) == Frame(kMember6.begin(), kMember6.end())));
  const Frame server = option6(2, dhcp6_option(offered.answer, 2));
  const Judged granted = judge(gateway, dhcp6_frame(3, {client, server, association}));
  CHECK(granted.answer[62] == 7 && dhcp6_option(granted.answer, 3) == given);
  const Judged at_once = judge(gateway, dhcp6_frame(1, {client, association, option6(14, {})}));
  CHECK(at_once.answer[62] == 7 && dhcp6_option(at_once.answer, 3) == given);
  const Judged released = judge(gateway, dhcp6_frame(8, {client, server, association}));
  CHECK(released.answer[62] == 7 && (dhcp6_option(released.answer, 13) == Frame{0, 0}));
  CHECK(judge(gateway, dhcp6_frame(11, {})).answer[62] == 7);
}

void dhcpv6_of_others_is_dropped() {
  const Frame client = option6(1, {0, 3, 0, 1, 9, 9}), association = option6(3, Frame(12));
  CHECK(is(Verdict::dhcp, dhcp6_frame(1, {client})));
  CHECK(is(Verdict::dhcp, dhcp6_frame(1, {association})));
  CHECK(is(Verdict::dhcp, dhcp6_frame(2, {client, association})));
  CHECK(is(Verdict::dhcp, dhcp6_frame(3, {client, association, option6(2, {1, 2, 3})})));
  CHECK(is(Verdict::dhcp, dhcp6_frame(1, {client, option6(3, Frame(11))})));
  CHECK(is(Verdict::dhcp, dhcp6_frame(1, {option6(1, Frame(131)), association})));
  CHECK(is(Verdict::dhcp, dhcp6_frame(1, {{0, 1, 0, 200}})));
  CHECK(is(Verdict::dhcp, v6(ipv6_packet(kLinkLocal6, kDhcpServers6, 17, udp(546, 547, {1, 2})), kGroup6)));
  Frame cut = udp(546, 547, {1, 2, 3, 4});
  cut[5] = 99;
  CHECK(is(Verdict::malformed, v6(ipv6_packet(kLinkLocal6, kDhcpServers6, 17, cut), kGroup6)));
}

void the_gateway_answers_pings_alone() {
  Frame ping{8, 0, 0, 0, 1, 2, 3, 4, 5};
  put_word(&ping[2], 0xffff - plain_sum(ping.data(), ping.size()));
  const Judged pong = judge(v4(ipv4_packet(kGuest4, kGatewayIpv4, 1, ping)));
  CHECK(pong.verdict == Verdict::answered && equals(&pong.answer[26], kGatewayIpv4) &&
        equals(&pong.answer[30], kGuest4));
  CHECK(pong.answer[34] == 0 && plain_sum(&pong.answer[34], ping.size()) == 0xffff);
  CHECK(plain_sum(&pong.answer[14], 20) == 0xffff);
  const Judged pong6 = judge(v6(icmpv6_packet(kLinkLocal6, kGatewayIpv6, {128, 0, 0, 0, 1, 2, 3, 4})));
  CHECK(pong6.verdict == Verdict::answered && pong6.answer[54] == 129 && sums_up(pong6.answer));
  CHECK(is(Verdict::gateway, v4(ipv4_packet(kGuest4, kGatewayIpv4, 17, udp(1000, 53, {})))));
  CHECK(is(Verdict::gateway, v4(ipv4_packet(kGuest4, kGatewayIpv4, 6, Frame(20)))));
  CHECK(is(Verdict::gateway, v6(ipv6_packet(kGuest6, kGatewayIpv6, 6, Frame(20)))));
  CHECK(is(Verdict::gateway, v6(ipv6_packet(kLinkLocal6, kGatewayIpv6, 17, udp(1000, 53, {})))));
}

void groups_are_noise_or_dropped() {
  CHECK(
      is(Verdict::noise, v6(ipv6_packet(kLinkLocal6, kMember6, 17, udp(1, 2, {})))));  // it has no other yet
  for (const Ipv4& group : {Ipv4{224, 0, 0, 22}, Ipv4{224, 0, 0, 251}, Ipv4{239, 255, 255, 250}})
    CHECK(
        is(Verdict::noise, v4(ipv4_packet(kGuest4, group, 17, udp(5353, 5353, {})), {1, 0, 0x5e, 0, 0, 1})));
  CHECK(is(Verdict::noise, v4(ipv4_packet(kNone4, {224, 0, 0, 22}, 2, Frame(8)), {1, 0, 0x5e, 0, 0, 22})));
  for (const Ipv4& group : {kAll4, Ipv4{224, 0, 0, 5}, Ipv4{240, 0, 0, 1}})
    CHECK(is(Verdict::multicast, v4(ipv4_packet(kGuest4, group, 17, udp(1, 2, {})), kBroadcast)));
  const Frame report{0, 0, 1, 0, 5, 2, 0, 0};  // router alert, and padding
  Frame mld = report;
  mld[0] = 58;
  mld.insert(mld.end(), {143, 0, 0, 0, 0, 0, 0, 0});
  CHECK(is(Verdict::noise, v6(ipv6_packet(kNobody6, kAllNodes6, 0, mld, 1), kGroup6)));
  Ipv6 mdns = kAllNodes6;
  mdns[15] = 0xfb;
  CHECK(is(Verdict::noise, v6(ipv6_packet(kLinkLocal6, mdns, 17, udp(5353, 5353, {})), kGroup6)));
  Ipv6 wide = kAllNodes6;
  wide[1] = 0x0e;
  CHECK(is(Verdict::multicast, v6(ipv6_packet(kGuest6, wide, 17, udp(1, 2, {})), kGroup6)));
  CHECK(is(Verdict::multicast, v6(ipv6_packet(kGuest6, {0xff, 2, 1, 0}, 17, udp(1, 2, {})), kGroup6)));
}

void what_comes_for_it_is_told_from_what_comes_for_others() {
  const Gateway gateway(guest_link());
  CHECK(gateway.is_guests(4, kGuest4.data()) && !gateway.is_guests(4, kMember4.data()));
  CHECK(gateway.is_guests(6, kGuest6.data()) && !gateway.is_guests(6, kMember6.data()));
}

}  // namespace

int main() {
  RUN(its_own_packets_pass_without_what_is_behind_them);
  RUN(another_station_is_told_apart);
  RUN(addresses_it_was_not_given_are_spoofed);
  RUN(what_is_no_packet_is_malformed);
  RUN(what_is_longer_than_it_was_told_goes_nowhere);
  RUN(fragments_no_system_makes_are_dropped);
  RUN(arp_finds_the_gateway_alone);
  RUN(neighbour_discovery_finds_the_gateway_alone);
  RUN(routers_are_solicited);
  RUN(dhcp_gives_its_address);
  RUN(dhcp_of_others_is_dropped);
  RUN(dhcpv6_gives_its_address);
  RUN(dhcpv6_of_others_is_dropped);
  RUN(the_gateway_answers_pings_alone);
  RUN(groups_are_noise_or_dropped);
  RUN(what_comes_for_it_is_told_from_what_comes_for_others);
  return check::finish();
}
