// SPDX-License-Identifier: Apache-2.0
// What a virtual machine at the engine's inside is told.
#include "addon/arguments.h"
#include "addon/engine_calls.h"

namespace omerta::addon {
namespace {

using engine::Engine;

/// Packed: ip 16, repeated: where it asks for names.
Napi::Value set_guest_names(Engine& engine, const Napi::CallbackInfo& info) {
  Unpacker batch(info[0], "names");
  std::vector<guest::Ipv4> names4;
  std::vector<guest::Ipv6> names6;
  while (!batch.done()) {
    const Bytes ip = batch.take(16);
    if (stack::is_ipv4(stack::address_of(ip.data(), 16)))
      std::copy_n(ip.begin() + 12, 4, names4.emplace_back().begin());
    else
      std::copy_n(ip.begin(), 16, names6.emplace_back().begin());
  }
  engine.set_guest_names(std::move(names4), std::move(names6));
  return info.Env().Undefined();
}

constexpr EngineCall kCalls[] = {{"setGuestNames", set_guest_names}};

}  // namespace

std::span<const EngineCall> guest_calls() { return kCalls; }

}  // namespace omerta::addon
