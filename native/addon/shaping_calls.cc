// SPDX-License-Identifier: Apache-2.0
// How what is sent to peers is shaped.
#include "addon/arguments.h"
#include "addon/engine_calls.h"

namespace omerta::addon {
namespace {

using engine::Engine;

/// Packed: key 32 | padding budget u32, %, 0: none | number of sizes u32 | sizes 8 × u16, repeated.
Napi::Value set_shaping(Engine& engine, const Napi::CallbackInfo& info) {
  Unpacker batch(info[0], "shaping");
  std::vector<session::ShapingSettings> all;
  while (!batch.done()) {
    session::ShapingSettings& settings = all.emplace_back();
    settings.peer = batch.take_key();
    settings.padding_budget = batch.take<uint32_t>();
    settings.padded_size_count = batch.take<uint32_t>();
    settings.padded_sizes = batch.take<decltype(settings.padded_sizes)>();
    if (settings.padded_size_count > session::kMaxPaddedSizes)
      throw_error(info.Env(), "BAD_ARGUMENT", "paddedSizes: too many");
  }
  engine.sessions().set_shaping(all);
  return info.Env().Undefined();
}

/// Of a peer: bytes of data, bytes of padding, packets that were not padded for want of budget; empty:
/// nothing is shaped.
Napi::Value shaping_counts(Engine& engine, const Napi::CallbackInfo& info) {
  const auto counts = engine.sessions().shaping_counts(key_of(info[0], "peer"));
  auto out = Napi::Float64Array::New(info.Env(), counts.has_value() ? 3 : 0);
  if (!counts.has_value()) return out;
  out[0] = static_cast<double>(counts->data_bytes);
  out[1] = static_cast<double>(counts->padding_bytes);
  out[2] = static_cast<double>(counts->unpadded_packets);
  return out;
}

constexpr EngineCall kCalls[] = {{"setShaping", set_shaping}, {"shapingCounts", shaping_counts}};

}  // namespace

std::span<const EngineCall> shaping_calls() { return kCalls; }

}  // namespace omerta::addon
