// SPDX-License-Identifier: Apache-2.0
// Limits of legs, accounts, source prefixes and the host, and what the accounts counted. An index that is
// out of its range is a bad argument.
#include "addon/arguments.h"
#include "addon/engine_calls.h"

namespace omerta::addon {
namespace {

using engine::Engine;

template <class T>
T packed(const Napi::Value& value, const char* field) {
  return Unpacker(value, field).take<T>();
}

size_t index_of(const Napi::Value& value) {
  return static_cast<size_t>(value.As<Napi::Number>().Int64Value());
}

relay::AccountKind kind_of(const Napi::Value& network) {
  return network.ToBoolean() ? relay::AccountKind::network : relay::AccountKind::identity;
}

/// index, struct omerta_limits
Napi::Value set_limits(Engine& engine, const Napi::CallbackInfo& info) {
  engine.legs().accounts().set_limits(index_of(info[0]), packed<omerta_limits>(info[1], "limits"));
  return info.Env().Undefined();
}

/// whether a network's, index, struct omerta_rate
Napi::Value set_rate(Engine& engine, const Napi::CallbackInfo& info) {
  const auto rate = packed<omerta_rate>(info[2], "rate");
  engine.legs().accounts().set_rate(kind_of(info[0]), index_of(info[1]), rate);
  return info.Env().Undefined();
}

/// whether a network's, index
Napi::Value reset_account(Engine& engine, const Napi::CallbackInfo& info) {
  engine.legs().accounts().reset(kind_of(info[0]), index_of(info[1]));
  return info.Env().Undefined();
}

/// struct omerta_rate
Napi::Value set_host_rate(Engine& engine, const Napi::CallbackInfo& info) {
  engine.legs().accounts().set_host_rate(packed<omerta_rate>(info[0], "rate"));
  return info.Env().Undefined();
}

/// struct omerta_rate, leading bits of IPv4 and of IPv6
Napi::Value set_prefix_rate(Engine& engine, const Napi::CallbackInfo& info) {
  const relay::Accounts::PrefixBits bits = {info[1].As<Napi::Number>().Uint32Value(),
                                            info[2].As<Napi::Number>().Uint32Value()};
  engine.legs().accounts().set_prefix_rate(packed<omerta_rate>(info[0], "rate"), bits);
  return info.Env().Undefined();
}

/// whether of networks. Packets, bytes and refused of each account, one after the other.
Napi::Value accounts(Engine& engine, const Napi::CallbackInfo& info) {
  const std::vector<omerta_account> all = engine.accounts(kind_of(info[0]));
  auto out = Napi::Float64Array::New(info.Env(), all.size() * 3);
  for (size_t i = 0; i < all.size(); i++) {
    out[i * 3] = static_cast<double>(all[i].packets);
    out[i * 3 + 1] = static_cast<double>(all[i].bytes);
    out[i * 3 + 2] = static_cast<double>(all[i].refused);
  }
  return out;
}

constexpr EngineCall kCalls[] = {
    {"setLimits", set_limits},          {"setRate", set_rate},
    {"resetAccount", reset_account},    {"setHostRate", set_host_rate},
    {"setPrefixRate", set_prefix_rate}, {"accounts", accounts},
};

}  // namespace

std::span<const EngineCall> limit_calls() { return kCalls; }

}  // namespace omerta::addon
