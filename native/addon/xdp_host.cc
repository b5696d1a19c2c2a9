// SPDX-License-Identifier: Apache-2.0
#include "addon/xdp_host.h"

#include "addon/xdp_errors.h"
#include "xdp/interface_facts.h"
#include "xdp/loopback_forwarding.h"
#include "xdp/self_test.h"
#include "xdp/xdp_relay.h"

namespace omerta::addon {
namespace {

Napi::Value describe(Napi::Env env, const xdp::InterfaceFacts& facts) {
  auto out = Napi::Object::New(env);
  out.Set("name", facts.name);
  out.Set("mtu", facts.mtu);
  out.Set("up", facts.up);
  out.Set("ethernet", facts.ethernet);
  out.Set("driver", facts.driver);
  out.Set("receiveQueues", facts.receive_queues);
  out.Set("transmitQueues", facts.transmit_queues);
  out.Set("receiveRing", facts.receive_ring);
  out.Set("transmitRing", facts.transmit_ring);
  if (facts.xdp_features.has_value()) {
    constexpr auto kBothWays = xdp::kXdpRedirect | xdp::kXdpTransmit;
    out.Set("nativeXdp", (*facts.xdp_features & xdp::kXdpBasic) != 0);
    out.Set("redirectXdp", (*facts.xdp_features & kBothWays) == kBothWays);
  }
  out.Set("programId", facts.program_id);
  out.Set("generic", facts.generic);
  return out;
}

Napi::Value list_interfaces(const Napi::CallbackInfo& info) {
  auto list = Napi::Array::New(info.Env());
  for (const std::string& name : xdp::interface_names())
    if (const auto facts = xdp::interface_facts(name)) list.Set(list.Length(), describe(info.Env(), *facts));
  return list;
}

/// The number of packets it took.
Napi::Value run_self_test(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), told(info.Env(), [] { return xdp::self_test(); }));
}

Napi::Value is_forwarding_enabled(const Napi::CallbackInfo& info) {
  const xdp::LoopbackForwarding on = xdp::loopback_forwarding();
  return Napi::Boolean::New(info.Env(), on.ipv4 && on.ipv6);
}

uint16_t port_of(const Napi::CallbackInfo& info) {
  return static_cast<uint16_t>(info[0].As<Napi::Number>().Uint32Value());
}

Napi::Value unload_relay(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), told(info.Env(), [&] { return xdp::unload(port_of(info)); }));
}

Napi::Value is_relay_loaded(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), told(info.Env(), [&] { return xdp::is_loaded(port_of(info)); }));
}

}  // namespace

void define_xdp_host(Napi::Env env, Napi::Object exports) {
  exports.Set("interfaces", Napi::Function::New(env, list_interfaces));
  exports.Set("selfTest", Napi::Function::New(env, run_self_test));
  exports.Set("forwardingEnabled", Napi::Function::New(env, is_forwarding_enabled));
  exports.Set("unload", Napi::Function::New(env, unload_relay));
  exports.Set("isLoaded", Napi::Function::New(env, is_relay_loaded));
}

}  // namespace omerta::addon
