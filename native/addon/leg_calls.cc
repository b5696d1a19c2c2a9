// SPDX-License-Identifier: Apache-2.0
// Legs of the forwarding table, and what they counted.
#include "addon/arguments.h"
#include "addon/engine_calls.h"

namespace omerta::addon {
namespace {

using engine::Engine;

/// Packed struct omerta_leg; expires_at counts from now. false: the table is full.
Napi::Value install_legs(Engine& engine, const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), engine.install_legs(legs_of(info[0], "legs")));
}

Napi::Value remove_legs(Engine& engine, const Napi::CallbackInfo& info) {
  engine.remove_legs(ids_of(info[0]));
  return info.Env().Undefined();
}

/// Five numbers for each id: 1 if there is such a leg, packets and bytes accepted, packets and bytes sent.
Napi::Value leg_counters(Engine& engine, const Napi::CallbackInfo& info) {
  const std::span<const uint32_t> ids = ids_of(info[0]);
  auto out = Napi::Float64Array::New(info.Env(), ids.size() * 5);
  for (size_t i = 0; i < ids.size(); i++) {
    omerta_leg leg;
    if (!engine.legs().find(ids[i], leg)) continue;
    const auto sent = engine.sent(ids[i]).value_or(relay::SentCounters::Sent{0, 0});
    const uint64_t values[5] = {1, leg.packets, leg.bytes, sent.packets, sent.bytes};
    for (size_t j = 0; j < 5; j++) out[i * 5 + j] = static_cast<double>(values[j]);
  }
  return out;
}

Napi::Value legs(Engine& engine, const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto list = Napi::Array::New(env);
  const Nanoseconds now = boot_clock();
  engine.legs().for_each([&](const omerta_leg& leg) {
    auto out = Napi::Object::New(env);
    out.Set("id", leg.leg_id);
    out.Set("packets", static_cast<double>(leg.packets));
    out.Set("bytes", static_cast<double>(leg.bytes));
    out.Set("refused", engine.refused(leg.leg_id));
    if (leg.last_used != 0)
      out.Set("idleMs", static_cast<double>(now > leg.last_used ? now - leg.last_used : 0) / 1e6);
    list.Set(list.Length(), out);
  });
  return list;
}

constexpr EngineCall kCalls[] = {{"installLegs", install_legs},
                                 {"removeLegs", remove_legs},
                                 {"legCounters", leg_counters},
                                 {"legs", legs}};

}  // namespace

std::span<const EngineCall> leg_calls() { return kCalls; }

}  // namespace omerta::addon
