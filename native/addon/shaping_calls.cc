// SPDX-License-Identifier: Apache-2.0
// How what is sent to peers is shaped.
#include <cstring>

#include "addon/arguments.h"
#include "addon/engine_calls.h"

namespace omerta::addon {
namespace {

using engine::Engine;

constexpr size_t kNameSize = 16;  // IFNAMSIZ

/// Packed: key 32 | padding budget u32, %, 0: none | number of sizes u32 | sizes 8 × u16 | whether packets
/// wait for their turn u32 | weight u32 | network u64 | its weight u32 | zero u32 | slot f64, ms, 0: none,
/// repeated.
Napi::Value set_shaping(Engine& engine, const Napi::CallbackInfo& info) {
  Unpacker batch(info[0], "shaping");
  std::vector<engine::PeerShaping> all;
  while (!batch.done()) {
    auto& [settings, flow] = all.emplace_back();
    settings.peer = flow.peer = batch.take_key();
    settings.padding_budget = batch.take<uint32_t>();
    settings.padded_size_count = batch.take<uint32_t>();
    settings.padded_sizes = batch.take<decltype(settings.padded_sizes)>();
    if (settings.padded_size_count > session::kMaxPaddedSizes)
      throw_error(info.Env(), "BAD_ARGUMENT", "paddedSizes: too many");
    settings.queued = batch.take<uint32_t>() != 0;
    flow.share.weight = batch.take<uint32_t>();
    flow.share.network = batch.take<uint64_t>();
    flow.share.network_weight = batch.take<uint32_t>();
    batch.take<uint32_t>();
    flow.slot = static_cast<Nanoseconds>(batch.take<double>() * static_cast<double>(kMillisecond));
    settings.covered = flow.slot != 0;
    if (settings.queued && (flow.share.weight == 0 || flow.share.network_weight == 0))
      throw_error(info.Env(), "BAD_ARGUMENT", "weight: 0");
  }
  engine.set_shaping(all);
  return info.Env().Undefined();
}

/// Packed: name of the interface 16, zero behind it | bytes a second u64, repeated.
Napi::Value set_ceilings(Engine& engine, const Napi::CallbackInfo& info) {
  Unpacker batch(info[0], "ceilings");
  std::vector<engine::Ceiling> all;
  while (!batch.done()) {
    const Bytes name = batch.take(kNameSize);
    const auto* text = reinterpret_cast<const char*>(name.data());
    all.push_back({std::string(text, strnlen(text, kNameSize)), batch.take<uint64_t>()});
    if (all.back().bytes_per_second == 0) throw_error(info.Env(), "BAD_ARGUMENT", "bytesPerSecond: 0");
  }
  engine.set_ceilings(all);
  return info.Env().Undefined();
}

/// Of each ceiling, in the order they were set: bytes sent, bytes that wait.
Napi::Value ceiling_counts(Engine& engine, const Napi::CallbackInfo& info) {
  const auto links = engine.egress().links();
  auto out = Napi::Float64Array::New(info.Env(), links.size() * 2);
  size_t at = 0;
  for (const engine::LinkStatus& link : links) {
    out[at++] = static_cast<double>(link.sent_bytes);
    out[at++] = static_cast<double>(link.waiting_bytes);
  }
  return out;
}

/// Of a peer: bytes of data, bytes of padding, packets that were not padded for want of budget, covers, and
/// those left out likewise, packets that waited, that were dropped since there was no room, and because they
/// had waited too long, that were marked instead, and bytes that wait; empty: nothing is shaped.
Napi::Value shaping_counts(Engine& engine, const Napi::CallbackInfo& info) {
  const Key32 peer = key_of(info[0], "peer");
  const auto counts = engine.sessions().shaping_counts(peer);
  if (!counts.has_value()) return Napi::Float64Array::New(info.Env(), 0);
  const auto waits = engine.egress().status(peer).value_or(engine::Egress::FlowStatus{});
  const uint64_t values[] = {
      counts->data_bytes,      counts->padding_bytes, counts->unpadded_packets,  counts->covers,
      counts->covers_left_out, waits.counts.queued,   waits.counts.dropped_full, waits.counts.dropped_late,
      waits.counts.marked,     waits.waiting_bytes};
  auto out = Napi::Float64Array::New(info.Env(), std::size(values));
  for (size_t i = 0; i < std::size(values); i++) out[i] = static_cast<double>(values[i]);
  return out;
}

constexpr EngineCall kCalls[] = {{"setShaping", set_shaping},
                                 {"shapingCounts", shaping_counts},
                                 {"setCeilings", set_ceilings},
                                 {"ceilingCounts", ceiling_counts}};

}  // namespace

std::span<const EngineCall> shaping_calls() { return kCalls; }

}  // namespace omerta::addon
