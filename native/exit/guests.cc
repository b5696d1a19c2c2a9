// SPDX-License-Identifier: Apache-2.0
#include "exit/guests.h"

#include <sys/resource.h>

#include <algorithm>

namespace omerta::exit {

Guests::Guests(const ExitPolicy& policy) : policy_(policy) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const size_t all = std::min<size_t>(limit.rlim_cur, 1U << 20);
  most_ = all > policy.spare_descriptors ? all - policy.spare_descriptors : 0;
}

std::vector<stack::Address> Guests::set(const std::vector<stack::Address>& guests) {
  std::vector<stack::Address> gone;
  for (const auto& [address, guest] : guests_)
    if (std::find(guests.begin(), guests.end(), address) == guests.end()) gone.push_back(address);
  for (const stack::Address& address : guests) guests_.try_emplace(address, policy_.new_per_second);
  for (const stack::Address& address : gone) {
    udp_ -= guests_.at(address).udp;
    guests_.erase(address);
  }
  return gone;
}

bool Guests::begin(const stack::Address& address, Nanoseconds now) {
  const auto guest = guests_.find(address);
  return guest != guests_.end() && descriptors_ < most_ && guest->second.fresh.take(now);
}

bool Guests::begin_udp(const stack::Address& address, Nanoseconds now) {
  const auto guest = guests_.find(address);
  if (guest == guests_.end() || udp_ >= policy_.udp || guest->second.udp >= policy_.udp_of_guest)
    return false;
  if (!begin(address, now)) return false;
  guest->second.udp++;
  udp_++;
  return true;
}

void Guests::end_udp(const stack::Address& address) {
  const auto guest = guests_.find(address);
  if (guest == guests_.end()) return;  // it took its flows along
  guest->second.udp--;
  udp_--;
}

}  // namespace omerta::exit
