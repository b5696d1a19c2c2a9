// SPDX-License-Identifier: Apache-2.0
#include "engine/offloads.h"

#include "tun/offload_self_test.h"
#include "udp/offload_self_test.h"

namespace omerta::engine {
namespace {

constexpr std::array<std::string_view, kOffloadCount> kNames = {
    "udp-gro",  "udp-gso", "tun-checksum-offload", "tun-tcp-offload", "tun-udp-offload",
    "io-uring", "ipsec-mb"};

}  // namespace

std::string_view Offloads::explain(Offload offload, Fault fault) {
  switch (fault) {
    case Fault::none:
      break;
    case Fault::refused:
      return offload == Offload::udp_gso ? "the kernel refused segmented messages and took their datagrams"
                                         : "the kernel refused super-packets and took their packets";
    case Fault::lost:
      return "a handshake sent at the end of a segmented message was lost twice, and answered when it was "
             "sent alone";
    case Fault::corrupted:
      return offload == Offload::ipsec_mb
                 ? "a packet with a known answer came out wrong; OpenSSL is used instead"
                 : "datagrams that arrived coalesced did not open, and did without coalescing";
    case Fault::wrong_header:
      return "the kernel handed over super-packets whose headers cannot be";
    case Fault::broken:
      return "the kernel refused a call of the ring; recvmmsg and sendmmsg are used instead";
  }
  return {};
}

Offloads::Offloads(const OffloadSwitches& wanted, bool with_tun) {
  const auto is_wanted = [&](Offload offload) { return wanted[index(offload)]; };
  if (is_wanted(Offload::udp_gro) || is_wanted(Offload::udp_gso)) {
    static const udp::OffloadTest found = udp::test_offloads();
    decide(Offload::udp_gro, is_wanted(Offload::udp_gro), found.gro);
    decide(Offload::udp_gso, is_wanted(Offload::udp_gso), found.gso);
  }
  if (!with_tun || !is_wanted(Offload::tun_checksum)) {
    // The other two rest on it.
    for (const Offload offload : {Offload::tun_tcp, Offload::tun_udp})
      if (with_tun && is_wanted(offload)) set_unavailable(offload, "needs tun-checksum-offload");
    return;
  }
  static const tun::OffloadTest found = tun::test_offloads();
  decide(Offload::tun_checksum, true, found.checksum);
  for (const Offload offload : {Offload::tun_tcp, Offload::tun_udp}) {
    decide(offload, is_wanted(offload), offload == Offload::tun_tcp ? found.tcp : found.udp);
    if (found.checksum.failed() && is_wanted(offload)) set_unavailable(offload, "needs tun-checksum-offload");
  }
}

std::string_view Offloads::name(Offload offload) { return kNames[index(offload)]; }

std::string_view Offloads::name(OffloadState state) {
  constexpr std::array<std::string_view, 4> kStateNames = {"on", "off", "unavailable", "demoted"};
  return kStateNames[static_cast<size_t>(state)];
}

void Offloads::decide(Offload offload, bool wanted, const SelfTest& test) {
  if (!wanted) return;
  Entry& entry = entries_[index(offload)];
  entry.state.store(test.failed() ? OffloadState::unavailable : OffloadState::on, std::memory_order_relaxed);
  entry.reason = test.detail;
}

std::string Offloads::reason(Offload offload) const {
  const Entry& entry = entries_[index(offload)];
  const Fault fault = entry.fault.load(std::memory_order_acquire);
  if (fault != Fault::none) return std::string(explain(offload, fault));
  const size_t peers = peers_without_gso_.load(std::memory_order_relaxed);
  if (offload != Offload::udp_gso || peers == 0) return entry.reason;
  return entry.reason + "; not used towards " + std::to_string(peers) + (peers == 1 ? " peer" : " peers") +
         ", where " + std::string(explain(offload, Fault::lost));
}

void Offloads::set_on(Offload offload, std::string reason) {
  Entry& entry = entries_[index(offload)];
  entry.state.store(OffloadState::on, std::memory_order_relaxed);
  entry.reason = std::move(reason);
}

void Offloads::set_unavailable(Offload offload, std::string reason) {
  Entry& entry = entries_[index(offload)];
  entry.state.store(OffloadState::unavailable, std::memory_order_relaxed);
  entry.reason = std::move(reason);
}

bool Offloads::demote(Offload offload, Fault fault) {
  Entry& entry = entries_[index(offload)];
  OffloadState present = OffloadState::on;
  if (!entry.state.compare_exchange_strong(present, OffloadState::demoted, std::memory_order_relaxed))
    return false;
  entry.fault.store(fault, std::memory_order_release);
  return true;
}

bool Offloads::restore(Offload offload, Fault fault) {
  Entry& entry = entries_[index(offload)];
  if (!entry.fault.compare_exchange_strong(fault, Fault::none, std::memory_order_relaxed)) return false;
  entry.state.store(OffloadState::on, std::memory_order_relaxed);
  return true;
}

}  // namespace omerta::engine
