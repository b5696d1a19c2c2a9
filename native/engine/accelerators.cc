// SPDX-License-Identifier: Apache-2.0
#include "engine/accelerators.h"

#include "tun/offload_self_test.h"
#include "udp/offload_self_test.h"

namespace omerta::engine {
namespace {

constexpr std::array<std::string_view, kAcceleratorCount> kNames = {
    "udp-gro",  "udp-gso", "tun-checksum-offload", "tun-tcp-offload", "tun-udp-offload",
    "io-uring", "ipsec-mb"};

}  // namespace

std::string_view Accelerators::explain(Accelerator accelerator, Fault fault) {
  switch (fault) {
    case Fault::none:
      break;
    case Fault::refused:
      return accelerator == Accelerator::udp_gso
                 ? "the kernel refused segmented messages and took their datagrams"
                 : "the kernel refused super-packets and took their packets";
    case Fault::lost:
      return "a handshake sent at the end of a segmented message was lost twice, and answered when it was "
             "sent alone";
    case Fault::corrupted:
      return accelerator == Accelerator::ipsec_mb
                 ? "a packet with a known answer came out wrong; OpenSSL is used instead"
                 : "datagrams that arrived coalesced did not open, and did without coalescing";
    case Fault::wrong_header:
      return "the kernel handed over super-packets whose headers cannot be";
    case Fault::broken:
      return "the kernel refused a call of the ring; recvmmsg and sendmmsg are used instead";
  }
  return {};
}

Accelerators::Accelerators(const AcceleratorSwitches& wanted, bool with_tun) {
  const auto is_wanted = [&](Accelerator accelerator) { return wanted[index(accelerator)]; };
  if (is_wanted(Accelerator::udp_gro) || is_wanted(Accelerator::udp_gso)) {
    static const udp::OffloadTest found = udp::test_offloads();
    decide(Accelerator::udp_gro, is_wanted(Accelerator::udp_gro), found.gro);
    decide(Accelerator::udp_gso, is_wanted(Accelerator::udp_gso), found.gso);
  }
  if (!with_tun || !is_wanted(Accelerator::tun_checksum)) {
    // Super-packets come without checksums.
    for (const Accelerator accelerator : {Accelerator::tun_tcp, Accelerator::tun_udp})
      if (with_tun && is_wanted(accelerator)) set_unavailable(accelerator, "needs tun-checksum-offload");
    return;
  }
  static const tun::OffloadTest found = tun::test_offloads();
  decide(Accelerator::tun_checksum, true, found.checksum);
  for (const Accelerator accelerator : {Accelerator::tun_tcp, Accelerator::tun_udp}) {
    decide(accelerator, is_wanted(accelerator), accelerator == Accelerator::tun_tcp ? found.tcp : found.udp);
    if (found.checksum.failed() && is_wanted(accelerator))
      set_unavailable(accelerator, "needs tun-checksum-offload");
  }
}

std::string_view Accelerators::name(Accelerator accelerator) { return kNames[index(accelerator)]; }

std::string_view Accelerators::name(AcceleratorState state) {
  constexpr std::array<std::string_view, 4> kStateNames = {"on", "off", "unavailable", "demoted"};
  return kStateNames[static_cast<size_t>(state)];
}

void Accelerators::decide(Accelerator accelerator, bool wanted, const SelfTest& test) {
  if (!wanted) return;
  Entry& entry = entries_[index(accelerator)];
  entry.state.store(test.failed() ? AcceleratorState::unavailable : AcceleratorState::on,
                    std::memory_order_relaxed);
  entry.reason = test.detail;
}

std::string Accelerators::reason(Accelerator accelerator) const {
  const Entry& entry = entries_[index(accelerator)];
  const Fault fault = entry.fault.load(std::memory_order_acquire);
  if (fault != Fault::none) return std::string(explain(accelerator, fault));
  const size_t peers = peers_without_gso_.load(std::memory_order_relaxed);
  if (accelerator != Accelerator::udp_gso || peers == 0) return entry.reason;
  return entry.reason + "; not used towards " + std::to_string(peers) + (peers == 1 ? " peer" : " peers") +
         ", where " + std::string(explain(accelerator, Fault::lost));
}

void Accelerators::set_on(Accelerator accelerator, std::string reason) {
  Entry& entry = entries_[index(accelerator)];
  entry.state.store(AcceleratorState::on, std::memory_order_relaxed);
  entry.reason = std::move(reason);
}

void Accelerators::set_unavailable(Accelerator accelerator, std::string reason) {
  Entry& entry = entries_[index(accelerator)];
  entry.state.store(AcceleratorState::unavailable, std::memory_order_relaxed);
  entry.reason = std::move(reason);
}

bool Accelerators::demote(Accelerator accelerator, Fault fault) {
  Entry& entry = entries_[index(accelerator)];
  AcceleratorState present = AcceleratorState::on;
  if (!entry.state.compare_exchange_strong(present, AcceleratorState::demoted, std::memory_order_relaxed))
    return false;
  entry.fault.store(fault, std::memory_order_release);
  return true;
}

bool Accelerators::restore(Accelerator accelerator, Fault fault) {
  Entry& entry = entries_[index(accelerator)];
  if (!entry.fault.compare_exchange_strong(fault, Fault::none, std::memory_order_relaxed)) return false;
  entry.state.store(AcceleratorState::on, std::memory_order_relaxed);
  return true;
}

}  // namespace omerta::engine
