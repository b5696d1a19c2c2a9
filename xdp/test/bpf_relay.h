// SPDX-License-Identifier: Apache-2.0
// The program under test with a small table, a machine of two addresses, and known ways to next hops.
#pragma once

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include <optional>

#include <omerta/door.h>
#include <omerta/xdp_maps.h>
#include "fresh_program.h"
#include "test/check.h"
#include "test/golden.h"
#include "test/golden_settings.h"
#include "xdp/leg_map.h"
#include "xdp/packet.h"
#include "xdp/relay_program.h"

namespace omerta::xdp {

inline constexpr int kSkipped = 77;
inline constexpr uint16_t kPort = 51820;
inline constexpr uint8_t kTtl = 64;
inline constexpr Mac kClientMac = {2, 0, 0, 0, 0, 1}, kRelayMac = {2, 0, 0, 0, 0, 2},
                     kNextHopMac = {2, 0, 0, 0, 0, 3};
inline constexpr uint32_t kLoopback = 1;

inline omerta_address own_address(bool v4) {
  return golden::address_of(v4 ? "198.18.0.1:51820" : "[2001:db8:ffff::1]:51820");
}

class BpfRelay {
 public:
  static constexpr relay::Accounts::Capacity kAccounts = {golden::kIdentities, golden::kNetworks,
                                                          golden::kClasses};

  BpfRelay()
      : program_({.port = kPort,
                  .max_legs = 128,
                  .max_routes = 256,
                  .index_slots = 64,
                  .accounts = kAccounts,
                  .test_clock = true}),
        legs_(*program_),
        shared_(program_->account_files(), kAccounts),
        door_(program_->door_fd(), sizeof(omerta_door), "map door"),
        accounts_(kAccounts) {
    accounts_.set_prefix_key(golden::kPrefixKey);
    accounts_.move_to(shared_.memory());
    legs_.on_settle([this](const omerta_leg& leg, int sign) { accounts_.settle(leg, sign); });
    omerta_xdp_settings& settings = program_->settings();
    settings.complete = 1;
    settings.own_count = 2;
    std::memcpy(settings.own[0].ip, own_address(true).ip, 16);
    std::memcpy(settings.own[1].ip, own_address(false).ip, 16);
    settings.only4 = settings.own[0];
    settings.only6 = settings.own[1];
    for (size_t kind = 0; kind < OMERTA_STRANGER_KINDS; kind++)
      settings.prefix[kind] = settings.total[kind] = settings.known[kind] = {0, UINT64_MAX / 2};
  }

  RelayProgram& program() { return *program_; }
  /// What an engine would tell it.
  omerta_door& door() { return *door_.as<omerta_door>(); }
  /// What the program charges.
  relay::Accounts& accounts() { return accounts_; }
  relay::Accounts::Memory account_memory() const { return shared_.memory(); }
  /// False when there is no room for it near its home.
  bool try_install(const omerta_leg& leg) { return legs_.install({&leg, 1}).empty(); }
  void install(const omerta_leg& leg) { CHECK(try_install(leg)); }
  void remove(uint32_t id) { legs_.remove({&id, 1}); }
  std::optional<omerta_leg> find(uint32_t id) const {
    omerta_leg leg;
    return legs_.find(id, leg) ? std::optional(leg) : std::nullopt;
  }

  /// The way to a leg's next address: back by the interface its frames came from.
  void remember_way(const omerta_leg& leg, uint32_t mtu = 65535) {
    const bool to_v4 = is_v4(leg.next_ip);
    omerta_next_hop hop{};
    std::memcpy(hop.to, leg.next_ip, 16);
    std::memcpy(hop.from, own_address(to_v4).ip, 16);
    std::memcpy(hop.destination_mac, kNextHopMac.data(), 6);
    std::memcpy(hop.source_mac, kRelayMac.data(), 6);
    hop.interface = kLoopback;
    hop.mtu = mtu;
    hop.valid_until = UINT64_MAX;
    program_->remember(hop);
  }

 private:
  FreshProgram program_;
  LegMap legs_;
  relay::SharedAccounts shared_;
  SharedMapping door_;
  relay::Accounts accounts_;
};

/// A datagram that comes to this machine.
inline Headers arriving(const omerta_address& from, UdpChecksum checksum = UdpChecksum::computed) {
  Headers headers;
  headers.source_mac = kClientMac;
  headers.destination_mac = kRelayMac;
  headers.from = from;
  headers.to = own_address(is_v4(from.ip));
  headers.ttl = 57;
  headers.service = 0x8a;
  headers.id = 0x1234;
  headers.checksum = checksum;
  return headers;
}

/// What it is sent on with.
inline Headers leaving(const Headers& before, const omerta_address& to) {
  Headers after = before;
  after.source_mac = kRelayMac;
  after.destination_mac = kNextHopMac;
  after.from = own_address(is_v4(to.ip));
  after.to = to;
  after.ttl = kTtl;
  after.service &= 3;  // ECN alone is told on
  if (is_v4(before.from.ip) != is_v4(to.ip)) {
    after.id = 0;
    after.checksum = UdpChecksum::computed;
  }
  return after;
}

inline bool same_counters(const omerta_xdp_counters& a, const omerta_xdp_counters& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

/// Runs `test` where BPF programs can be loaded. @returns the exit code.
template <class Test>
int run_bpf_test(const Test& test) {
  try {
    const BpfRelay probe;
  } catch (const XdpError& error) {
    if (error.code() == XdpError::Code::load_refused) {
      std::printf("SKIP: loading BPF programs needs root or CAP_BPF and CAP_NET_ADMIN\n");
      return kSkipped;
    }
    std::fprintf(stderr, "FAILED: the XDP relay does not load: %s\n", error.what());
    return 1;
  }
  test();
  return check::finish();
}

}  // namespace omerta::xdp
