// SPDX-License-Identifier: Apache-2.0
#include "relay/accounts.h"

#include <cstring>
#include <stdexcept>

namespace omerta::relay {
namespace {

void require(bool condition, const char* field, std::size_t given, std::size_t count) {
  if (condition) return;
  throw std::out_of_range(std::string(field) + ": " + std::to_string(given) + " given, there are 0 to " +
                          std::to_string(count - 1));
}

void require_capacity(const char* field, std::size_t given, std::size_t most) {
  if (given >= 1 && given <= most) return;
  throw std::invalid_argument(std::string(field) + ": " + std::to_string(given) + " given, must be 1 to " +
                              std::to_string(most));
}

void store_rate(omerta_rate& to, const omerta_rate& rate) {
  OMERTA_WRITE(&to.byte_interval, rate.byte_interval);
  OMERTA_WRITE(&to.packet_interval, rate.packet_interval);
  OMERTA_WRITE(&to.burst, rate.burst);
}

omerta_rate load_rate(const omerta_rate& from) {
  return {OMERTA_READ(&from.byte_interval), OMERTA_READ(&from.packet_interval), OMERTA_READ(&from.burst)};
}

omerta_account load_account(const omerta_account& from) {
  return {load_rate(from.rate),
          0,
          OMERTA_READ(&from.theoretical_arrival),
          OMERTA_READ(&from.fair_arrival),
          OMERTA_READ(&from.demand),
          OMERTA_READ(&from.refused),
          OMERTA_READ(&from.packets),
          OMERTA_READ(&from.bytes)};
}

/// The leading `bits` of `width`, as they lie in an address.
uint64_t leading(unsigned width, unsigned bits) {
  const uint64_t all = width == 64 ? UINT64_MAX : (uint64_t{1} << width) - 1;
  const uint64_t mask = bits == 0 ? 0 : all & ~((uint64_t{1} << (width - bits)) - 1);
  return width == 64 ? __builtin_bswap64(mask) : __builtin_bswap32(static_cast<uint32_t>(mask));
}

}  // namespace

Accounts::Accounts(const Capacity& capacity) : capacity_(capacity) {
  require_capacity("identities", capacity.identities, UINT32_MAX);
  require_capacity("networks", capacity.networks, 65536);
  require_capacity("classes", capacity.classes, 65536);
  limits_ = std::make_unique<omerta_limits[]>(capacity.classes);
  identities_ = std::make_unique<omerta_account[]>(capacity.identities);
  networks_ = std::make_unique<omerta_account[]>(capacity.networks);
  prefixes_ = std::make_unique<__u64[]>(OMERTA_PREFIX_BUCKETS);
  single_ = std::make_unique<Single>();
  own_ = {&single_->policy, limits_.get(),  identities_.get(),
          networks_.get(),  &single_->host, prefixes_.get()};
  set_prefix_key(1);
  set_prefix_rate({}, {});
}

omerta_account& Accounts::at(AccountKind kind, std::size_t index) {
  const bool identity = kind == AccountKind::identity;
  require(index < size(kind), identity ? "identity" : "network", index, size(kind));
  return identity ? memory().identities[index] : memory().networks[index];
}

std::size_t Accounts::size(AccountKind kind) const {
  return kind == AccountKind::identity ? capacity_.identities : capacity_.networks;
}

void Accounts::set_limits(std::size_t index, const omerta_limits& limits) {
  require(index < capacity_.classes, "limits", index, capacity_.classes);
  store_rate(memory().limits[index].rate, limits.rate);
  OMERTA_WRITE(&memory().limits[index].byte_cap, limits.byte_cap);
}

void Accounts::set_rate(AccountKind kind, std::size_t index, const omerta_rate& rate) {
  store_rate(at(kind, index).rate, rate);
}

void Accounts::reset(AccountKind kind, std::size_t index) {
  omerta_account& account = at(kind, index);
  for (__u64* field : {&account.theoretical_arrival, &account.fair_arrival, &account.demand, &account.refused,
                       &account.packets, &account.bytes})
    OMERTA_WRITE(field, 0);
}

void Accounts::move_to(const Memory& memory) {
  const Memory& before = this->memory();
  std::memcpy(static_cast<void*>(memory.policy), before.policy, sizeof *before.policy);
  std::memcpy(static_cast<void*>(memory.limits), before.limits, capacity_.classes * sizeof *before.limits);
  const auto copy = [](omerta_account* to, const omerta_account* from, std::size_t count) {
    for (std::size_t i = 0; i < count; i++) to[i] = load_account(from[i]);
  };
  copy(memory.identities, before.identities, capacity_.identities);
  copy(memory.networks, before.networks, capacity_.networks);
  copy(memory.host, before.host, 1);
  shared_ = memory;
  memory_.store(&shared_, std::memory_order_release);
}

void Accounts::set_host_rate(const omerta_rate& rate) { store_rate(memory().policy->host, rate); }

void Accounts::set_prefix_rate(const omerta_rate& rate, PrefixBits bits) {
  require(bits.ipv4 <= 32, "IPv4 prefix", bits.ipv4, 33);
  require(bits.ipv6 <= 64, "IPv6 prefix", bits.ipv6, 65);
  OMERTA_WRITE(&memory().policy->prefix_mask4, static_cast<__u32>(leading(32, bits.ipv4)));
  OMERTA_WRITE(&memory().policy->prefix_mask6, static_cast<__u64>(leading(64, bits.ipv6)));
  store_rate(memory().policy->prefix, rate);
}

void Accounts::set_prefix_key(uint64_t key) { OMERTA_WRITE(&memory().policy->prefix_key, __u64{key | 1}); }

void Accounts::set_fair_share(uint32_t factor, uint32_t burst) {
  OMERTA_WRITE(&memory().policy->fair_burst, burst);
  OMERTA_WRITE(&memory().policy->fair_factor, factor);
}

void Accounts::check(const omerta_leg& leg) const {
  require(leg.identity < capacity_.identities, "identity", leg.identity, capacity_.identities);
  require(leg.network < capacity_.networks, "network", leg.network, capacity_.networks);
  require(leg.limits < capacity_.classes, "limits", leg.limits, capacity_.classes);
}

void Accounts::settle(const omerta_leg& leg, int sign) {
  for (omerta_account* account : {&memory().identities[leg.identity], &memory().networks[leg.network]}) {
    OMERTA_WRITE(&account->packets, account->packets + (sign < 0 ? -leg.packets : leg.packets));
    OMERTA_WRITE(&account->bytes, account->bytes + (sign < 0 ? -leg.bytes : leg.bytes));
  }
}

omerta_account Accounts::read(AccountKind kind, std::size_t index) const {
  return load_account(const_cast<Accounts*>(this)->at(kind, index));
}

void Accounts::demands(std::span<uint64_t> out) const {
  for (std::size_t i = 0; i < capacity_.identities; i++) out[i] = OMERTA_READ(&memory().identities[i].demand);
}

omerta_account Accounts::host() const { return load_account(*memory().host); }

omerta_rate Accounts::host_rate() const { return load_rate(memory().policy->host); }

}  // namespace omerta::relay
