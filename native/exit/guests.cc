// SPDX-License-Identifier: Apache-2.0
#include "exit/guests.h"

#include <sys/resource.h>

#include <algorithm>

#include "inner/ip.h"

namespace omerta::exit {
namespace {

constexpr uint16_t kNamesPort = 53;
constexpr uint8_t kLoopback[4] = {127, 0, 0, 1};

}  // namespace

Guests::Guests(const ExitPolicy& policy) : policy_(policy) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const size_t all = std::min<size_t>(limit.rlim_cur, 1U << 20);
  most_ = all > policy.spare_descriptors ? all - policy.spare_descriptors : 0;
}

void Guests::set(const std::vector<Guest>& guests) {
  round_++;
  for (const Guest& guest : guests) {
    Entry& entry = guests_.try_emplace(guest.address, policy_).first->second;
    entry.guest = guest;
    entry.round = round_;
  }
  std::erase_if(guests_, [this](const auto& each) {
    if (each.second.round == round_) return false;
    udp_ -= each.second.udp;  // it takes its flows along
    return true;
  });
}

std::optional<Destination> Guests::destination(const stack::Flow& flow, uint8_t protocol) const {
  const auto entry = guests_.find(flow.remote);
  if (entry == guests_.end()) return std::nullopt;
  const Guest& guest = entry->second.guest;
  for (const Names& names : names_) {
    if (names.address != flow.local) continue;
    // Of this node itself guests reach its resolver alone.
    const uint16_t port = protocol == inner::kTcp ? names.tcp : names.udp;
    if (flow.local_port != kNamesPort || port == 0 || guest.asks_from == 0) return std::nullopt;
    return Destination{stack::address_of(kLoopback, sizeof kLoopback), port, guest.asks_from};
  }
  if (!policy_.permits(guest, protocol, flow.local, flow.local_port)) return std::nullopt;
  return Destination{flow.local, flow.local_port};
}

bool Guests::begin(const stack::Address& address, Nanoseconds now) {
  const auto guest = guests_.find(address);
  if (guest == guests_.end() || descriptors_ >= most_) {
    refused_++;
    return false;
  }
  if (guest->second.fresh.take(now)) return true;
  flows_too_fast_++;
  return false;
}

bool Guests::begin_udp(const stack::Address& address, Nanoseconds now) {
  const auto guest = guests_.find(address);
  if (guest == guests_.end() || udp_ >= policy_.udp || guest->second.udp >= policy_.udp_of_guest) {
    refused_++;
    return false;
  }
  if (!begin(address, now)) return false;
  guest->second.udp++;
  udp_++;
  return true;
}

bool Guests::send(const stack::Address& address, uint64_t count, Nanoseconds now) {
  const auto guest = guests_.find(address);
  if (guest == guests_.end() || guest->second.datagrams.take(now, count)) return true;
  datagrams_too_fast_ += count;
  return false;
}

void Guests::end_udp(const stack::Address& address) {
  const auto guest = guests_.find(address);
  if (guest == guests_.end()) return;  // it took its flows along
  guest->second.udp--;
  udp_--;
}

}  // namespace omerta::exit
