// SPDX-License-Identifier: Apache-2.0
// Changes of a running engine's UDP port and TUN interface.
#include "addon/arguments.h"
#include "addon/engine_calls.h"

namespace omerta::addon {
namespace {

using engine::Engine;

Napi::Value rebind(Engine& engine, const Napi::CallbackInfo& info) {
  engine.rebind(static_cast<uint16_t>(info[0].As<Napi::Number>().Uint32Value()));
  return info.Env().Undefined();
}

Napi::Value open_port(Engine& engine, const Napi::CallbackInfo& info) {
  engine.open_port();
  return info.Env().Undefined();
}

Napi::Value close_port(Engine& engine, const Napi::CallbackInfo& info) {
  engine.close_port();
  return info.Env().Undefined();
}

Napi::Value texts(Napi::Env env, const std::vector<std::string>& all) {
  auto out = Napi::Array::New(env);
  for (const std::string& text : all) out.Set(out.Length(), text);
  return out;
}

/// Those the interface cannot have.
Napi::Value put_addresses(Engine& engine, const Napi::CallbackInfo& info) {
  return texts(info.Env(), engine.put_addresses());
}

Napi::Value unrouted_addresses(Engine& engine, const Napi::CallbackInfo& info) {
  return texts(info.Env(), engine.unrouted_addresses());
}

Napi::Value set_interface_down(Engine& engine, const Napi::CallbackInfo& info) {
  engine.set_interface_down();
  return info.Env().Undefined();
}

Napi::Value set_fwmark(Engine& engine, const Napi::CallbackInfo& info) {
  engine.set_fwmark(info[0].As<Napi::Number>().Uint32Value());
  return info.Env().Undefined();
}

/// The descriptor. Argument: the 4 bytes of an address.
Napi::Value open_side_socket(Engine& engine, const Napi::CallbackInfo& info) {
  const Bytes address = bytes_of(info[0], "address");
  if (address.size() != 4) throw_error(info.Env(), "BAD_ARGUMENT", "address: 4 bytes are expected");
  return Napi::Number::New(info.Env(), engine.open_side_socket(load<uint32_t>(address.data())));
}

constexpr EngineCall kCalls[] = {
    {"rebind", rebind},
    {"openPort", open_port},
    {"closePort", close_port},
    {"putAddresses", put_addresses},
    {"unroutedAddresses", unrouted_addresses},
    {"setInterfaceDown", set_interface_down},
    {"setFwmark", set_fwmark},
    {"openSideSocket", open_side_socket},
};

}  // namespace

std::span<const EngineCall> interface_calls() { return kCalls; }

}  // namespace omerta::addon
