// SPDX-License-Identifier: Apache-2.0
#include "udp/return_addresses.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace omerta::udp {
namespace {

/// Whether something can be sent from it: not multicast, not 255.255.255.255, not nothing.
bool is_source(const uint8_t* ip) {
  if (ip[0] == 0xff) return false;
  if (omerta_load64(ip) != 0) return true;
  const uint64_t low = omerta_load64(ip + 8);
  if (low == 0) return false;
  const bool mapped = (low & 0xffffffff) == 0xffff0000;
  return !mapped || (ip[12] < 224 && ip[12] != 0);
}

bool same_local(const LocalAddress& a, const LocalAddress& b) {
  return a.interface == b.interface && std::memcmp(a.ip, b.ip, sizeof a.ip) == 0;
}

}  // namespace

ReturnAddresses::ReturnAddresses(size_t remotes, const uint64_t (&key)[2])
    : key_{key[0], key[1]},
      // Half full, few buckets overflow.
      buckets_((2 * std::max<size_t>(remotes, 32) + kWays - 1) / kWays) {}

void ReturnAddresses::prepare() {
  if (words_.load(std::memory_order_relaxed) != nullptr) return;
  const std::lock_guard lock(changing_);
  if (memory_ != nullptr || !(sole_.several || choice_.load(std::memory_order_relaxed))) return;
  try {
    memory_ = std::make_unique<TouchedMemory>(buckets_ * kWays * sizeof(Word), TouchedMemory::Pages::huge);
  } catch (const std::bad_alloc&) {
    return;
  }
  words_.store(reinterpret_cast<Word*>(memory_->data()), std::memory_order_release);
}

size_t ReturnAddresses::memory() const {
  return words_.load(std::memory_order_relaxed) == nullptr ? 0 : buckets_ * kWays * sizeof(Word);
}

/// SipHash-1-3 (Aumasson & Bernstein 2012) of the 18 bytes: remotes choose their addresses.
uint64_t ReturnAddresses::hash(const omerta_address& remote) const {
  uint64_t v0 = key_[0] ^ 0x736f6d6570736575;
  uint64_t v1 = key_[1] ^ 0x646f72616e646f6d;
  uint64_t v2 = key_[0] ^ 0x6c7967656e657261;
  uint64_t v3 = key_[1] ^ 0x7465646279746573;
  const uint64_t words[3] = {omerta_load64(remote.ip), omerta_load64(remote.ip + 8),
                             uint64_t{remote.port} | uint64_t{sizeof remote} << 56};
  for (const uint64_t word : words) {
    v3 ^= word;
    OMERTA_SIPROUND(v0, v1, v2, v3);
    v0 ^= word;
  }
  v2 ^= 0xff;
  for (int i = 0; i < 3; i++) OMERTA_SIPROUND(v0, v1, v2, v3);
  return v0 ^ v1 ^ v2 ^ v3;
}

ReturnAddresses::Word* ReturnAddresses::bucket(uint64_t hash) const {
  Word* words = words_.load(std::memory_order_acquire);
  // The upper half of the hash chooses the bucket, the lower half is in the word.
  return words == nullptr ? nullptr : words + ((hash >> 32) * buckets_ >> 32) * kWays;
}

uint32_t ReturnAddresses::number_of(const LocalAddress& local) {
  if (!is_source(local.ip)) return 0;
  LocalAddress wanted = local;
  wanted.port = 0;
  // Elsewhere the interface is routing's: an address may move.
  if (!is_link_local(local.ip)) wanted.interface = 0;
  uint32_t count = locals_count_.load(std::memory_order_acquire);
  for (uint32_t i = 1; i <= count; i++)
    if (same_local(locals_[i], wanted)) return i;
  const std::lock_guard lock(changing_);
  count = locals_count_.load(std::memory_order_relaxed);
  for (uint32_t i = 1; i <= count; i++)
    if (same_local(locals_[i], wanted)) return i;
  if (count == kNumber) return 0;
  locals_[count + 1] = wanted;
  locals_count_.store(count + 1, std::memory_order_release);
  note_choice();
  return count + 1;
}

void ReturnAddresses::set_sole(const SoleAddresses& sole) {
  const std::lock_guard lock(changing_);
  sole_ = sole;
  note_choice();
}

/// Under the mutex.
void ReturnAddresses::note_choice() {
  uint32_t numbers[2] = {0, 0};
  bool choice = false;
  for (uint32_t i = 1; i <= locals_count_.load(std::memory_order_relaxed); i++) {
    if (std::memcmp(locals_[i].ip, sole_.ipv4, 16) == 0)
      numbers[0] = i;
    else if (std::memcmp(locals_[i].ip, sole_.ipv6, 16) == 0)
      numbers[1] = i;
    else
      choice = true;
  }
  for (size_t i = 0; i < 2; i++) sole_numbers_[i].store(numbers[i], std::memory_order_relaxed);
  choice_.store(choice, std::memory_order_relaxed);
}

void ReturnAddresses::learn(const omerta_address& remote, const LocalAddress& local) {
  const uint32_t number = number_of(local);
  if (number == 0 || words_.load(std::memory_order_relaxed) == nullptr) return;
  const uint64_t hashed = hash(remote);
  const uint32_t word = (static_cast<uint32_t>(hashed) & ~kNumber) | number;
  Word* words = bucket(hashed);
  size_t place = kWays;
  for (size_t i = 0; i < kWays; i++) {
    const uint32_t present = words[i].load(std::memory_order_relaxed);
    if (present == word) return;
    if (((present ^ word) & ~kNumber) == 0) {
      place = i;  // it talks to another address now
      break;
    }
    if (present == 0 && place == kWays) place = i;
  }
  if (place == kWays) place = hashed % kWays;  // somebody else's
  words[place].store(word, std::memory_order_release);
}

LocalAddress ReturnAddresses::find(const omerta_address& remote) const {
  if (!choice_.load(std::memory_order_relaxed)) return {};
  const uint64_t hashed = hash(remote);
  const Word* words = bucket(hashed);
  if (words == nullptr) return {};
  for (size_t i = 0; i < kWays; i++) {
    const uint32_t present = words[i].load(std::memory_order_acquire);
    if (((present ^ static_cast<uint32_t>(hashed)) & ~kNumber) != 0 || present == 0) continue;
    const uint32_t number = present & kNumber;
    const bool sole = number == sole_numbers_[0].load(std::memory_order_relaxed) ||
                      number == sole_numbers_[1].load(std::memory_order_relaxed);
    return sole || avoided_[number].load(std::memory_order_relaxed) ? LocalAddress{} : locals_[number];
  }
  return {};
}

void ReturnAddresses::avoid(const LocalAddress& local, bool avoided) {
  const uint32_t number = number_of(local);
  if (number == 0 || avoided_[number].exchange(avoided, std::memory_order_relaxed) == avoided) return;
  avoided_count_.fetch_add(avoided ? 1 : UINT32_MAX, std::memory_order_relaxed);
}

bool ReturnAddresses::avoids(const LocalAddress& local) const {
  if (avoided_count_.load(std::memory_order_relaxed) == 0) return false;
  for (uint32_t i = 1; i <= locals_count_.load(std::memory_order_acquire); i++)
    if (std::memcmp(locals_[i].ip, local.ip, sizeof local.ip) == 0)
      return avoided_[i].load(std::memory_order_relaxed);
  return false;
}

void ReturnAddresses::clear() {
  Word* words = words_.load(std::memory_order_acquire);
  if (words == nullptr) return;
  for (size_t i = 0; i < buckets_ * kWays; i++) words[i].store(0, std::memory_order_relaxed);
}

}  // namespace omerta::udp
