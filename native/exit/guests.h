// SPDX-License-Identifier: Apache-2.0
// Who may send by an exit, each with where that leads and what it may begin. One thread.
#pragma once

#include <optional>
#include <unordered_map>
#include <vector>

#include "exit/exit_policy.h"
#include "ratelimit/token_bucket.h"

namespace omerta::exit {

/// Where a flow of a guest goes on.
struct Destination {
  stack::Address address{};
  uint16_t port = 0;
  uint32_t from = 0;  ///< the address it is sent from, in network order; 0: as routing has it
  bool names() const { return from != 0; }
  bool operator==(const Destination&) const = default;
};

class Guests {
 public:
  explicit Guests(const ExitPolicy& policy);

  /// From now on these, and nobody else.
  void set(const std::vector<Guest>& guests);
  void set_names(std::vector<Names> names) { names_ = std::move(names); }
  /// flow: as the exit has it, its local end is where the guest sends to. nullopt: nowhere.
  std::optional<Destination> destination(const stack::Flow& flow, uint8_t protocol) const;
  bool contains(const stack::Address& address) const { return guests_.contains(address); }
  /// Takes a flow of a guest's; false: it may begin none now, or there is no descriptor to spare.
  bool begin(const stack::Address& address, Nanoseconds now);
  /// The same for one that takes a UDP port.
  bool begin_udp(const stack::Address& address, Nanoseconds now);
  void end_udp(const stack::Address& address);
  void opened() { descriptors_++; }
  void closed() { descriptors_--; }

 private:
  struct Entry {
    explicit Entry(uint64_t per_second) : fresh(per_second, per_second) {}
    Guest guest;
    TokenBucket fresh;
    size_t udp = 0;
    uint64_t round = 0;  ///< of set(): when it was named last
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
  uint64_t round_ = 0;
  std::unordered_map<stack::Address, Entry, Hash> guests_;
  std::vector<Names> names_;
};

}  // namespace omerta::exit
