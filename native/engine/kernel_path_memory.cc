// SPDX-License-Identifier: Apache-2.0
#include "engine/kernel_path_memory.h"

#include <omerta/blake2s.h>

#include <iterator>
#include <stdexcept>

namespace omerta::engine {

void KernelPathMemory::mirror_indices(session::SessionTable& sessions, int fd) {
  if (indices_.has_value()) throw std::logic_error("receiver indices are mirrored already");
  indices_.emplace(fd, sessions.index_slots() * sizeof(uint64_t), "map indices");
  sessions.mirror_indices(indices_->as<uint64_t>());
}

void KernelPathMemory::mirror_expected(relay::WireguardTable& wireguard, int fd) {
  if (expected_.has_value()) throw std::logic_error("expected indices are mirrored already");
  expected_.emplace(fd, OMERTA_EXPECTED_INDICES * sizeof(uint64_t), "map expected");
  wireguard.mirror_expected(expected_->as<uint64_t>());
}

void KernelPathMemory::mirror_door(Shared& shared, int fd) {
  if (door_.has_value()) throw std::logic_error("the door is mirrored already");
  door_.emplace(fd, sizeof(omerta_door), "map door");
  auto* const door = door_->as<omerta_door>();
  tell_key(*shared.sessions);
  shared.wireguard.tell(door);
  shared.stranger_budgets.keep_in(door);
}

void KernelPathMemory::tell_key(session::SessionTable& sessions) {
  if (!door_.has_value()) return;
  auto* const door = door_->as<omerta_door>();
  OMERTA_WRITE(&door->checks_mac1, 0U);  // meanwhile
  uint32_t state[8];
  omerta_mac1_begin(state, sessions.mac1_key().data());
  for (size_t i = 0; i < std::size(state); i++) OMERTA_WRITE(&door->mac1_state[i], state[i]);
  __atomic_store_n(&door->checks_mac1, 1U, __ATOMIC_RELEASE);
}

void KernelPathMemory::share_windows(relay::ForwardingTable& legs, const relay::WindowFiles& files) {
  if (windows_.has_value()) throw std::logic_error("windows are shared already");
  windows_.emplace(files);
  legs.share_windows(*windows_);
}

void KernelPathMemory::share_accounts(relay::ForwardingTable& legs, const relay::AccountFiles& files,
                                      const relay::Accounts::Capacity& capacity) {
  if (accounts_.has_value()) throw std::logic_error("accounts are shared already");
  accounts_.emplace(files, capacity);
  legs.share_accounts(accounts_->memory());
}

}  // namespace omerta::engine
