// SPDX-License-Identifier: Apache-2.0
// What the engine shares with the kernel path: memory both write, given as file descriptors that stay the
// caller's, and the routes of relayed WireGuard sessions (omerta/wireguard_relay.h).
#include "addon/arguments.h"
#include "addon/engine_calls.h"

namespace omerta::addon {
namespace {

using engine::Engine;

int file_of(const Napi::CallbackInfo& info) { return info[0].As<Napi::Number>().Int32Value(); }

Napi::Value mirror_indices(Engine& engine, const Napi::CallbackInfo& info) {
  engine.mirror_indices(file_of(info));
  return info.Env().Undefined();
}

Napi::Value mirror_expected(Engine& engine, const Napi::CallbackInfo& info) {
  engine.mirror_expected(file_of(info));
  return info.Env().Undefined();
}

Napi::Value mirror_door(Engine& engine, const Napi::CallbackInfo& info) {
  engine.mirror_door(file_of(info));
  return info.Env().Undefined();
}

/// Files: legs, windows; and how many entries they have.
Napi::Value share_windows(Engine& engine, const Napi::CallbackInfo& info) {
  const auto given = info[0].As<Napi::Int32Array>();
  if (given.ElementLength() != 3)
    throw_error(info.Env(), "BAD_ARGUMENT", "shareWindows: expected 2 files and their entries");
  engine.share_windows({given[0], given[1], static_cast<uint32_t>(given[2])});
  return info.Env().Undefined();
}

/// Files: policy, limits, identities, networks, host, prefixes.
Napi::Value share_accounts(Engine& engine, const Napi::CallbackInfo& info) {
  const auto files = info[0].As<Napi::Int32Array>();
  if (files.ElementLength() != 6) throw_error(info.Env(), "BAD_ARGUMENT", "shareAccounts: expected 6 files");
  engine.share_accounts({files[0], files[1], files[2], files[3], files[4], files[5]});
  return info.Env().Undefined();
}

/// Another number after every change of wireguardRoutes().
Napi::Value wireguard_changes(Engine& engine, const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(engine.wireguard_changes()));
}

/// Packed struct omerta_leg; expires_at as the kernel counts.
Napi::Value wireguard_routes(Engine& engine, const Napi::CallbackInfo& info) {
  return packed_legs(info.Env(), engine.wireguard_routes());
}

Napi::Value adopt_wireguard_routes(Engine& engine, const Napi::CallbackInfo& info) {
  engine.adopt_wireguard_routes(legs_of(info[0], "routes"));
  return info.Env().Undefined();
}

Napi::Value add_wireguard_carried(Engine& engine, const Napi::CallbackInfo& info) {
  engine.add_wireguard_carried(legs_of(info[0], "routes"));
  return info.Env().Undefined();
}

constexpr EngineCall kCalls[] = {
    {"mirrorIndices", mirror_indices},
    {"mirrorExpected", mirror_expected},
    {"mirrorDoor", mirror_door},
    {"shareWindows", share_windows},
    {"shareAccounts", share_accounts},
    {"wireguardChanges", wireguard_changes},
    {"wireguardRoutes", wireguard_routes},
    {"adoptWireguardRoutes", adopt_wireguard_routes},
    {"addWireguardCarried", add_wireguard_carried},
};

}  // namespace

std::span<const EngineCall> kernel_path_calls() { return kCalls; }

}  // namespace omerta::addon
