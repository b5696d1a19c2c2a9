// SPDX-License-Identifier: Apache-2.0
// What the control plane sends: handshakes, control payloads inside sessions, frames outside of them.
#include "addon/arguments.h"
#include "addon/engine_calls.h"

namespace omerta::addon {
namespace {

using engine::Engine;

/// false: there is no such peer.
Napi::Value handshake(Engine& engine, const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), engine.start_handshake(key_of(info[0], "peer")));
}

/// Packed: key 32 | length u32 | payload, repeated. Returns how many had no such peer.
Napi::Value send_control(Engine& engine, const Napi::CallbackInfo& info) {
  Unpacker batch(info[0], "batch");
  uint32_t unknown = 0;
  while (!batch.done()) {
    const Key32 peer = batch.take_key();
    const auto length = batch.take<uint32_t>();
    if (!engine.send_control(peer, batch.take(length))) unknown++;
  }
  return Napi::Number::New(info.Env(), unknown);
}

/// Packed: ip 16 | port u16 | zero u16 | length u32 | frame, repeated.
Napi::Value send_frames(Engine& engine, const Napi::CallbackInfo& info) {
  Unpacker batch(info[0], "batch");
  while (!batch.done()) {
    const omerta_address to = batch.take_address();
    batch.take<uint16_t>();
    const auto length = batch.take<uint32_t>();
    engine.send_frame(to, batch.take(length));
  }
  return info.Env().Undefined();
}

constexpr EngineCall kCalls[] = {
    {"handshake", handshake}, {"sendControl", send_control}, {"sendFrames", send_frames}};

}  // namespace

std::span<const EngineCall> message_calls() { return kCalls; }

}  // namespace omerta::addon
