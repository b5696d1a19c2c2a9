// SPDX-License-Identifier: Apache-2.0
// Where packets of peers may go besides this node, and what our own stack forwards for them.
#include "addon/arguments.h"
#include "addon/engine_calls.h"

namespace omerta::addon {
namespace {

using engine::Engine;

/// Packed: family u8 | length u8 | denied u8 | zero u8 | ip 16, repeated.
std::vector<session::ExitRule> rules_of(const Napi::Value& value) {
  Unpacker batch(value, "rules");
  std::vector<session::ExitRule> rules;
  while (!batch.done()) {
    const Bytes packed = batch.take(20);
    const auto prefix = session::Prefix::make(packed[0], packed.data() + 4, packed[1]);
    if (!prefix.has_value()) throw_error(value.Env(), "BAD_ARGUMENT", "rules: not a prefix");
    rules.push_back({*prefix, packed[2] != 0});
  }
  return rules;
}

/// (rules of exits, rules of LANs)
Napi::Value set_exit_rules(Engine& engine, const Napi::CallbackInfo& info) {
  engine.set_exit_rules(rules_of(info[0]), rules_of(info[1]));
  return info.Env().Undefined();
}

/// Packed: ip 16 | asks from, 4 bytes of IPv4, 0: nowhere | exit u8 | lan u8 | zero u16, repeated.
Napi::Value set_guests(Engine& engine, const Napi::CallbackInfo& info) {
  Unpacker batch(info[0], "guests");
  std::vector<exit::Guest> guests;
  while (!batch.done()) {
    exit::Guest guest;
    guest.address = stack::address_of(batch.take(16).data(), 16);
    guest.asks_from = batch.take<uint32_t>();
    guest.exit = batch.take<uint8_t>() != 0;
    guest.lan = batch.take<uint8_t>() != 0;
    batch.take(2);
    guests.push_back(guest);
  }
  engine.set_guests(std::move(guests));
  return info.Env().Undefined();
}

/// Packed: ip 16 | UDP port u16 | TCP port u16, little-endian, repeated.
Napi::Value set_names(Engine& engine, const Napi::CallbackInfo& info) {
  Unpacker batch(info[0], "names");
  std::vector<exit::Names> all;
  while (!batch.done()) {
    exit::Names names;
    names.address = stack::address_of(batch.take(16).data(), 16);
    names.udp = batch.take<uint16_t>();
    names.tcp = batch.take<uint16_t>();
    all.push_back(names);
  }
  engine.set_names(std::move(all));
  return info.Env().Undefined();
}

/// Connections, ports for datagrams, what was refused, flows and datagrams that came too fast; nothing
/// without a stack.
Napi::Value exit_counts(Engine& engine, const Napi::CallbackInfo& info) {
  const std::optional<exit::ExitCounts> counts = engine.exit_counts();
  auto out = Napi::Float64Array::New(info.Env(), counts.has_value() ? 5 : 0);
  if (!counts.has_value()) return out;
  out[0] = static_cast<double>(counts->tcp);
  out[1] = static_cast<double>(counts->udp);
  out[2] = static_cast<double>(counts->refused);
  out[3] = static_cast<double>(counts->flows_too_fast);
  out[4] = static_cast<double>(counts->datagrams_too_fast);
  return out;
}

constexpr EngineCall kCalls[] = {
    {"setExitRules", set_exit_rules},
    {"setExitGuests", set_guests},
    {"setExitNames", set_names},
    {"exitCounts", exit_counts},
};

}  // namespace

std::span<const EngineCall> exit_calls() { return kCalls; }

}  // namespace omerta::addon
