// SPDX-License-Identifier: Apache-2.0
// The calls of a NativeEngine in JavaScript, a file a group. What they take and give is documented at each,
// and for users in ts/engine/native/native-engine.ts, their only caller.
#pragma once

#include <napi.h>

#include <span>

#include "engine/engine.h"

namespace omerta::addon {

/// A method of the JavaScript object. It runs only while the engine is open; what it throws is told to
/// JavaScript as an error with a code (NativeEngine::call).
struct EngineCall {
  const char* name;
  Napi::Value (*run)(engine::Engine& engine, const Napi::CallbackInfo& info);
};

std::span<const EngineCall> peer_calls();
std::span<const EngineCall> message_calls();
std::span<const EngineCall> path_calls();
std::span<const EngineCall> shaping_calls();
std::span<const EngineCall> exit_calls();
std::span<const EngineCall> guest_calls();
std::span<const EngineCall> leg_calls();
std::span<const EngineCall> limit_calls();
std::span<const EngineCall> wireguard_relay_calls();
std::span<const EngineCall> kernel_path_calls();
std::span<const EngineCall> interface_calls();
std::span<const EngineCall> status_calls();

/// The offloads of a TUN interface as they would be found if one was opened now.
Napi::Value test_tun_offloads(const Napi::CallbackInfo& info);

}  // namespace omerta::addon
