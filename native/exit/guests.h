// SPDX-License-Identifier: Apache-2.0
// Who may send by an exit, each with what it may begin. One thread.
#pragma once

#include <unordered_map>
#include <vector>

#include "exit/exit_policy.h"
#include "ratelimit/token_bucket.h"

namespace omerta::exit {

class Guests {
 public:
  explicit Guests(const ExitPolicy& policy);

  /// From now on these, and nobody else. @returns those that are none any more
  std::vector<stack::Address> set(const std::vector<stack::Address>& guests);
  bool contains(const stack::Address& address) const { return guests_.contains(address); }
  /// Takes a flow of a guest's; false: it may begin none now, or there is no descriptor to spare.
  bool begin(const stack::Address& address, Nanoseconds now);
  /// The same for one that takes a UDP port.
  bool begin_udp(const stack::Address& address, Nanoseconds now);
  void end_udp(const stack::Address& address);
  void opened() { descriptors_++; }
  void closed() { descriptors_--; }
  size_t udp() const { return udp_; }

 private:
  struct Guest {
    explicit Guest(uint64_t per_second) : fresh(per_second, per_second) {}
    TokenBucket fresh;
    size_t udp = 0;
  };
  struct Hash {
    size_t operator()(const stack::Address& a) const {  // of addresses that the operator gave out
      return load<uint64_t>(a.data()) * 31 + load<uint64_t>(a.data() + 8);
    }
  };

  const ExitPolicy& policy_;
  size_t most_;  ///< descriptors
  size_t descriptors_ = 0;
  size_t udp_ = 0;
  std::unordered_map<stack::Address, Guest, Hash> guests_;
};

}  // namespace omerta::exit
