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
  /// Takes a flow of a guest's; false, and counted: it may begin none now, or there is no descriptor to
  /// spare.
  bool begin(const stack::Address& address, Nanoseconds now);
  /// The same for one that takes a UDP port.
  bool begin_udp(const stack::Address& address, Nanoseconds now);
  void end_udp(const stack::Address& address);
  /// Takes datagrams of a guest's; false, and counted: it sends too many.
  bool send(const stack::Address& address, uint64_t count, Nanoseconds now);
  /// Something that was asked for is not given.
  void refuse() { refused_++; }
  /// But for what came too fast.
  uint64_t refused() const { return refused_; }
  /// Flows, and datagrams, beyond what a guest may begin and send in a second.
  uint64_t flows_too_fast() const { return flows_too_fast_; }
  uint64_t datagrams_too_fast() const { return datagrams_too_fast_; }
  void opened() { descriptors_++; }
  void closed() { descriptors_--; }

 private:
  struct Entry {
    explicit Entry(const ExitPolicy& policy)
        : fresh(policy.new_per_second, policy.new_per_second),
          datagrams(policy.datagrams_per_second, policy.datagrams_per_second / 10) {}
    Guest guest;
    TokenBucket fresh;
    TokenBucket datagrams;
    size_t udp = 0;
    uint64_t round = 0;  ///< of set(): when it was named last
  };
  const ExitPolicy& policy_;
  size_t most_;  ///< descriptors
  size_t descriptors_ = 0;
  size_t udp_ = 0;
  uint64_t refused_ = 0;
  uint64_t flows_too_fast_ = 0;
  uint64_t datagrams_too_fast_ = 0;
  uint64_t round_ = 0;
  std::unordered_map<stack::Address, Entry, stack::AddressHash> guests_;
  std::vector<Names> names_;
};

}  // namespace omerta::exit
