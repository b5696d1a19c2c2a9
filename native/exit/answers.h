// SPDX-License-Identifier: Apache-2.0
// What this node answers its guests itself: pings, and ICMP errors for what went no further. Of each guest
// some may wait to be sent, so that one who asks often takes no place of another's.
#pragma once

#include <deque>
#include <unordered_map>
#include <vector>

#include "inner/icmp_error.h"
#include "stack/datagram.h"

namespace omerta::exit {

/// That a datagram of a guest's went no further. flow: as the exit has it, its remote end is the guest.
/// payload: what is known of the datagram's. Empty where nothing may be said of it.
std::vector<uint8_t> unreachable_datagram(const stack::Flow& flow, Bytes payload, inner::Unreachable why);

class Answers {
 public:
  static constexpr size_t kMostOfGuest = 64, kMost = 4096;

  /// Of what came from `guest`; nothing where `packet` is empty, or where as many wait as may.
  void add(const stack::Address& guest, std::vector<uint8_t> packet);
  /// unreachable_datagram() of it.
  void unreachable(const stack::Flow& flow, Bytes payload, inner::Unreachable why);
  /// The next packet for a guest, until it is called again; nullptr: there is none.
  const inner::Received* next();

 private:
  struct Waiting {
    stack::Address guest;
    std::vector<uint8_t> packet;
  };

  std::deque<Waiting> waiting_;
  std::unordered_map<stack::Address, size_t, stack::AddressHash> of_guest_;  ///< how many wait
  std::vector<uint8_t> packet_;
  inner::Received received_{};
};

}  // namespace omerta::exit
