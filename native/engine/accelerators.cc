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

std::string_view Accelerators::name(Fault fault) {
  constexpr std::array<std::string_view, 6> kFaultNames = {"",          "refused",      "lost",
                                                           "corrupted", "wrong-header", "broken"};
  return kFaultNames[static_cast<size_t>(fault)];
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
      if (with_tun && is_wanted(accelerator)) set_unavailable(accelerator, {"needs", "tun-checksum-offload"});
    return;
  }
  static const tun::OffloadTest found = tun::test_offloads();
  decide(Accelerator::tun_checksum, true, found.checksum);
  for (const Accelerator accelerator : {Accelerator::tun_tcp, Accelerator::tun_udp}) {
    decide(accelerator, is_wanted(accelerator), accelerator == Accelerator::tun_tcp ? found.tcp : found.udp);
    if (found.checksum.failed() && is_wanted(accelerator))
      set_unavailable(accelerator, {"needs", "tun-checksum-offload"});
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
  entry.reason = test.reason;
}

Reason Accelerators::reason(Accelerator accelerator) const {
  const Entry& entry = entries_[index(accelerator)];
  const Fault fault = entry.fault.load(std::memory_order_acquire);
  return fault != Fault::none ? Reason{name(fault), {}} : entry.reason;
}

void Accelerators::set_on(Accelerator accelerator, Reason reason) {
  Entry& entry = entries_[index(accelerator)];
  entry.state.store(AcceleratorState::on, std::memory_order_relaxed);
  entry.reason = std::move(reason);
}

void Accelerators::set_unavailable(Accelerator accelerator, Reason reason) {
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
