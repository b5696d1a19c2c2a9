// SPDX-License-Identifier: Apache-2.0
// The state behind omerta/limits.h: classes of limits, accounts of identities and networks and of the
// host, buckets of source prefixes. All memory is taken once; nothing a stranger does makes it grow.
// The control thread writes rates, workers charge; every field is read and written whole.
#pragma once

#include <omerta/limits.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace omerta::relay {

enum class AccountKind : uint8_t { identity = 0, network = 1 };

class Accounts {
 public:
  /// How many there are of each, index 0 included; at least 1, networks and classes at most 65,536.
  struct Capacity {
    std::size_t identities = 1;
    std::size_t networks = 1;
    std::size_t classes = 1;
  };

  /// Where the state is: as many entries of each as the capacity says, OMERTA_PREFIX_BUCKETS buckets.
  struct Memory {
    omerta_policy* policy;
    omerta_limits* limits;
    omerta_account* identities;
    omerta_account* networks;
    omerta_account* host;
    __u64* prefixes;
  };

  /// @throws std::invalid_argument naming the number that is out of its range.
  explicit Accounts(const Capacity& capacity);
  /// Control thread: goes on in zeroed memory that others charge too, with what was set so far. What
  /// workers charge at this very moment is lost. The memory has to outlive this.
  void move_to(const Memory& memory);

  // Control thread. Indexes that do not exist: std::out_of_range naming the field.

  void set_limits(std::size_t index, const omerta_limits& limits);
  /// Changes a rate; what is charged stays.
  void set_rate(AccountKind kind, std::size_t index, const omerta_rate& rate);
  /// Forgets what was charged and counted: the account is another's now.
  void reset(AccountKind kind, std::size_t index);
  void set_host_rate(const omerta_rate& rate);
  /// Leading bits of an address that share a bucket: at most 32 of IPv4, 64 of IPv6.
  struct PrefixBits {
    unsigned ipv4 = 32;
    unsigned ipv6 = 64;
  };
  void set_prefix_rate(const omerta_rate& rate, PrefixBits bits);
  /// The secret that spreads prefixes over buckets; made odd.
  void set_prefix_key(uint64_t key);
  /// @throws std::out_of_range when the leg names an account or class there is none of.
  void check(const omerta_leg& leg) const;
  /// Adds a leg's counts, when it ends or goes to other accounts (`sign` -1 takes them back).
  void settle(const omerta_leg& leg, int sign = 1);

  // Any thread.

  /// What an identity may take of the host (omerta_policy.fair_factor); 0 lifts it.
  void set_fair_share(uint32_t factor, uint32_t burst);
  omerta_account read(AccountKind kind, std::size_t index) const;
  omerta_account host() const;
  omerta_rate host_rate() const;
  /// Demand of every identity so far (omerta_account.demand); `out` has room for all.
  void demands(std::span<uint64_t> out) const;
  std::size_t size(AccountKind kind) const;

  /// Where a leg's frames from `source` are charged.
  omerta_books books(uint32_t identity, uint16_t network, uint16_t limits, const omerta_address& source) {
    const Memory& at = *memory_.load(std::memory_order_acquire);
    return {at.policy,
            &at.limits[limits],
            &at.identities[identity],
            &at.networks[network],
            at.host,
            &at.prefixes[omerta_prefix_bucket(at.policy, &source)]};
  }

 private:
  omerta_account& at(AccountKind kind, std::size_t index);

  Capacity capacity_;
  const Memory& memory() const { return *memory_.load(std::memory_order_relaxed); }

  /// A cache line each: the policy is read by every frame and seldom written.
  struct Single {
    alignas(64) omerta_policy policy{};
    alignas(64) omerta_account host{};
  };
  std::unique_ptr<omerta_limits[]> limits_;
  std::unique_ptr<omerta_account[]> identities_;
  std::unique_ptr<omerta_account[]> networks_;
  std::unique_ptr<__u64[]> prefixes_;
  std::unique_ptr<Single> single_;
  Memory own_{};
  Memory shared_{};
  std::atomic<const Memory*> memory_{&own_};
};

}  // namespace omerta::relay
