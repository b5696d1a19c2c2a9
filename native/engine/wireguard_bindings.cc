// SPDX-License-Identifier: Apache-2.0
#include "engine/wireguard_bindings.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace omerta::engine {

void WireguardBindings::set(std::span<const omerta_wireguard_binding> bindings) {
  const size_t most = shared_.wireguard.enabled() ? OMERTA_WIREGUARD_BINDINGS : 0;
  if (bindings.size() > most)
    throw std::out_of_range("bindings: " + std::to_string(bindings.size()) + " given, at most " +
                            std::to_string(most) + " are possible");
  relay::Accounts& accounts = shared_.legs.accounts();
  const auto key_of = [](const omerta_wireguard_binding& b) { return load<Key32>(b.public_key); };
  for (const omerta_wireguard_binding& binding : bindings) {
    omerta_leg charged{};
    charged.identity = binding.identity;
    charged.network = binding.network;
    charged.limits = binding.limits;
    accounts.check(charged);
  }
  held_.resize(OMERTA_WIREGUARD_BINDINGS);
  for (size_t number = 0; number < held_.size(); number++) {
    auto& held = held_[number];
    const auto is_held = [&](const omerta_wireguard_binding& b) { return key_of(b) == held; };
    if (!held.has_value() || std::ranges::any_of(bindings, is_held)) continue;
    shared_.wireguard.unbind(number, accounts);
    held.reset();
  }
  order_.clear();
  for (const omerta_wireguard_binding& binding : bindings) {
    const Key32 key = key_of(binding);
    auto place = std::ranges::find(held_, std::optional(key));
    if (place == held_.end()) place = std::ranges::find(held_, std::optional<Key32>());
    *place = key;
    const auto number = static_cast<size_t>(place - held_.begin());
    shared_.wireguard.bind(number, binding, boot_clock(), accounts);
    order_.push_back(number);
  }
}

std::vector<relay::WireguardTable::Usage> WireguardBindings::usage() const {
  std::vector<relay::WireguardTable::Usage> usage;
  for (const size_t number : order_) usage.push_back(shared_.wireguard.usage(number));
  return usage;
}

}  // namespace omerta::engine
