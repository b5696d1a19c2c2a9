// SPDX-License-Identifier: Apache-2.0
// The kernel path (native/xdp) as a module of Node.js. It is one of its own, because it needs libbpf: where
// that is not installed, the native engine loads all the same. ts/engine/xdp/xdp-addon.ts is its only caller.
#include <napi.h>

#include "addon/xdp_host.h"
#include "addon/xdp_relay_handle.h"

namespace {

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  exports.Set("counterNames", omerta::addon::xdp_counter_names(env));
  exports.Set("XdpRelay", omerta::addon::XdpRelayHandle::define(env));
  omerta::addon::define_xdp_host(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(omerta_xdp, initialise)
