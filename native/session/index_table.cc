// SPDX-License-Identifier: Apache-2.0
#include "session/index_table.h"

#include <algorithm>
#include <bit>

#include "session/peer.h"

namespace omerta::session {
namespace {

constexpr uint32_t kFirstSlots = 1024;
/// Beyond this the table gets fuller instead.
constexpr uint32_t kMostSlots = uint32_t{1} << 28;
/// Two sessions with two pairs of keys each, the responder's next one, and a handshake.
constexpr size_t kSlotsOfPeer = 6;

}  // namespace

IndexTable::IndexTable(Qsbr& qsbr) : qsbr_(qsbr), slots_(new Slots(kFirstSlots)) {}

IndexTable::~IndexTable() { delete slots_.load(); }

Keypair* IndexTable::find(uint32_t index) const {
  Keypair* keypair =
      slots_.load(std::memory_order_acquire)->of(index).keypair.load(std::memory_order_acquire);
  return keypair != nullptr && keypair->local_index == index ? keypair : nullptr;
}

Peer* IndexTable::handshake(uint32_t index) const {
  const Slot& slot = slots_.load(std::memory_order_relaxed)->of(index);
  return slot.handshake_index == index ? slot.handshake : nullptr;
}

uint32_t IndexTable::allocate(Peer& peer, const RandomBytes& random) {
  if (used_ > slots_.load(std::memory_order_relaxed)->mask / 2) grow();
  const Slots& slots = *slots_.load(std::memory_order_relaxed);
  for (;;) {
    uint32_t index = 0;
    random(std::span(reinterpret_cast<uint8_t*>(&index), sizeof index));
    Slot& slot = slots.of(index);
    if (index == 0 || slot.handshake != nullptr || slot.keypair.load(std::memory_order_relaxed) != nullptr)
      continue;
    slot.handshake = &peer;
    slot.handshake_index = index;
    used_++;
    write_mirror(index);
    return index;
  }
}

void IndexTable::release(uint32_t index) {
  Slot& slot = slots_.load(std::memory_order_relaxed)->of(index);
  if (slot.handshake == nullptr || slot.handshake_index != index) return;
  slot.handshake = nullptr;
  used_--;
}

void IndexTable::promote(Keypair& keypair) {
  Slot& slot = slots_.load(std::memory_order_relaxed)->of(keypair.local_index);
  slot.handshake = nullptr;
  slot.keypair.store(&keypair, std::memory_order_release);
}

void IndexTable::remove(const Keypair& keypair) {
  Slot& slot = slots_.load(std::memory_order_relaxed)->of(keypair.local_index);
  if (slot.keypair.load(std::memory_order_relaxed) != &keypair) return;
  slot.keypair.store(nullptr, std::memory_order_release);
  used_--;
}

uint32_t IndexTable::most_slots(size_t peers) {
  // It grows when half of it is taken.
  const size_t most = std::bit_ceil(2 * kSlotsOfPeer * peers + 2);
  return static_cast<uint32_t>(std::clamp<size_t>(most, kFirstSlots, kMostSlots));
}

void IndexTable::mirror(uint64_t* words, uint32_t mask) {
  mirror_ = words;
  mirror_mask_ = mask;
  const Slots& slots = *slots_.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i <= slots.mask; i++) {
    const Slot& slot = slots.slot[i];
    if (const Keypair* keypair = slot.keypair.load(std::memory_order_relaxed); keypair != nullptr)
      write_mirror(keypair->local_index);
    else if (slot.handshake != nullptr)
      write_mirror(slot.handshake_index);
  }
}

void IndexTable::write_mirror(uint32_t index) const {
  if (mirror_ == nullptr) return;
  std::atomic_ref<uint64_t>(mirror_[index & mirror_mask_]).store(index, std::memory_order_relaxed);
}

/// Two indices that had slots of their own under a short mask have them under a longer one.
void IndexTable::grow() {
  Slots* old = slots_.load(std::memory_order_relaxed);
  const uint32_t count = old->mask + 1;
  if (count >= kMostSlots) return;
  auto* wider = new Slots(count * 2);
  for (uint32_t i = 0; i < count; i++) {
    const Slot& slot = old->slot[i];
    Keypair* keypair = slot.keypair.load(std::memory_order_relaxed);
    if (keypair == nullptr && slot.handshake == nullptr) continue;
    Slot& moved = wider->of(keypair != nullptr ? keypair->local_index : slot.handshake_index);
    moved.keypair.store(keypair, std::memory_order_relaxed);
    moved.handshake = slot.handshake;
    moved.handshake_index = slot.handshake_index;
  }
  slots_.store(wider, std::memory_order_release);
  qsbr_.retire([old] { delete old; });
}

}  // namespace omerta::session
