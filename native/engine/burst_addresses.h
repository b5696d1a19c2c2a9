// SPDX-License-Identifier: Apache-2.0
// What many datagrams of one receive ask for and is looked up once: the sender last learned from, and the
// destination last forwarded to with what it is sent from.
#pragma once

#include <cstring>

#include "udp/return_addresses.h"

namespace omerta::engine {

class BurstAddresses {
 public:
  explicit BurstAddresses(udp::ReturnAddresses& proven) : proven_(proven) {}

  /// Before each receive.
  void begin() {
    learned_ = nullptr;
    next_ = {};
  }
  bool has_learned(const udp::Message& message) const { return learned_ == &message; }
  /// The sender of a message is who it says: what it sent to is what it is to be sent from.
  void learn(const udp::Message& message) {
    if (learned_ == &message) return;
    learned_ = &message;
    proven_.learn(message.from, message.local);
  }
  /// What to send from; valid until the next call.
  const LocalAddress& towards(const omerta_address& to) {
    if (std::memcmp(&to, &next_, sizeof to) != 0) {
      next_ = to;
      source_ = proven_.find(to);
    }
    return source_;
  }

 private:
  udp::ReturnAddresses& proven_;
  const udp::Message* learned_ = nullptr;
  omerta_address next_{};
  LocalAddress source_;
};

}  // namespace omerta::engine
