// SPDX-License-Identifier: Apache-2.0
// Who may answer at a port of a guest's: the last addresses it has sent to (RFC 4787, REQ-8).
#pragma once

#include <deque>
#include <set>

#include "stack/flow.h"

namespace omerta::exit {

class Correspondents {
 public:
  static constexpr size_t kMost = 256;

  bool contains(const stack::Address& address) const { return known_.contains(address); }
  void add(const stack::Address& address) {
    if (!known_.insert(address).second) return;
    order_.push_back(address);
    if (order_.size() <= kMost) return;
    known_.erase(order_.front());
    order_.pop_front();
  }

 private:
  std::set<stack::Address> known_;
  std::deque<stack::Address> order_;
};

}  // namespace omerta::exit
