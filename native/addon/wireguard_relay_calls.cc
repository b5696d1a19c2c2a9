// SPDX-License-Identifier: Apache-2.0
// Servers whose stock WireGuard clients are relayed.
#include "addon/arguments.h"
#include "addon/engine_calls.h"

namespace omerta::addon {
namespace {

using engine::Engine;

/// Packed: public key 32 | ip 16 | port u16 | network u16 | identity u32 | limits u16 | zero u16, repeated.
Napi::Value set_wireguard_bindings(Engine& engine, const Napi::CallbackInfo& info) {
  Unpacker batch(info[0], "bindings");
  std::vector<omerta_wireguard_binding> bindings;
  while (!batch.done()) {
    omerta_wireguard_binding& binding = bindings.emplace_back();
    std::memcpy(binding.public_key, batch.take(32).data(), 32);
    binding.server = batch.take_address();
    binding.network = batch.take<uint16_t>();
    binding.identity = batch.take<uint32_t>();
    binding.limits = batch.take<uint16_t>();
    batch.take<uint16_t>();
  }
  engine.set_wireguard_bindings(bindings);
  return info.Env().Undefined();
}

/// Sessions, packets, bytes and number of each binding, in the order they were set.
Napi::Value wireguard_usage(Engine& engine, const Napi::CallbackInfo& info) {
  const auto usage = engine.wireguard_usage();
  auto out = Napi::Float64Array::New(info.Env(), usage.size() * 4);
  for (size_t i = 0; i < usage.size(); i++) {
    out[i * 4] = usage[i].sessions;
    out[i * 4 + 1] = static_cast<double>(usage[i].packets);
    out[i * 4 + 2] = static_cast<double>(usage[i].bytes);
    out[i * 4 + 3] = static_cast<double>(engine.wireguard_numbers()[i]);
  }
  return out;
}

constexpr EngineCall kCalls[] = {{"setWireguardBindings", set_wireguard_bindings},
                                 {"wireguardUsage", wireguard_usage}};

}  // namespace

std::span<const EngineCall> wireguard_relay_calls() { return kCalls; }

}  // namespace omerta::addon
