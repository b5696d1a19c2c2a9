// SPDX-License-Identifier: Apache-2.0
// The native engine as a module of Node.js. Everything that crosses often crosses in batches: events and
// counters lie in memory both sides see, legs, frames and control payloads come packed in one buffer.
// ts/engine/native/native-engine.ts is the only caller and the place where this is documented for users.
#include <napi.h>

#include "addon/gateway_calls.h"
#include "addon/guest_socket_handle.h"
#include "addon/host_calls.h"
#include "addon/namespace_calls.h"
#include "addon/native_engine.h"
#include "addon/stream_relay_handle.h"

namespace {

using omerta::addon::NativeEngine;
using omerta::engine::Instruments;

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  exports.Set("NativeEngine", NativeEngine::define(env));
  exports.Set("GuestSocket", omerta::addon::GuestSocketHandle::define(env));
  exports.Set("StreamRelay", omerta::addon::StreamRelayHandle::define(env));
  exports.Set("testTunOffloads",
              Napi::Function::New(env, omerta::addon::test_tun_offloads, "testTunOffloads"));
  omerta::addon::export_host_calls(env, exports);
  omerta::addon::export_namespace_calls(env, exports);
  omerta::addon::export_gateway_calls(env, exports);
  auto names = Napi::Array::New(env);
  for (uint32_t i = 0; i < omerta::kCounterCount; i++)
    names.Set(i, Napi::String::New(env, std::string(omerta::kCounterNames[i])));
  exports.Set("counterNames", names);
  exports.Set("counterRowBytes", static_cast<double>(sizeof(omerta::CounterRow)));
  exports.Set("instrumentRowBytes", static_cast<double>(sizeof(Instruments)));
  exports.Set("latencyBuckets", static_cast<double>(Instruments::kBuckets));
  exports.Set("latencyFirstBits", static_cast<double>(Instruments::kFirstBucketBits));
  return exports;
}

}  // namespace

NODE_API_MODULE(omerta, initialise)
