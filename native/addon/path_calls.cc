// SPDX-License-Identifier: Apache-2.0
// Several ways to one peer: sets, probes, what went by which.
#include "addon/arguments.h"
#include "addon/engine_calls.h"

namespace omerta::addon {
namespace {

using engine::Engine;

Nanoseconds nanoseconds(double milliseconds) {
  return static_cast<Nanoseconds>(milliseconds * static_cast<double>(kMillisecond));
}

/// ip 16 | port u16 | zero u16 | leg u32 | local ip 16, zero: routing chooses | interface u32, 0: likewise |
/// local port u16, 0: the engine's own | zero u16. nullopt: there is no such `deliver` leg.
std::optional<session::Endpoint> take_ends(const Engine& engine, Unpacker& batch) {
  session::Endpoint ends;
  ends.remote = batch.take_address();
  batch.take<uint16_t>();
  const auto leg = batch.take<uint32_t>();
  std::memcpy(ends.local.ip, batch.take(sizeof ends.local.ip).data(), sizeof ends.local.ip);
  ends.local.interface = ends.local.leaves_by = batch.take<uint32_t>();
  ends.local.port = __builtin_bswap16(batch.take<uint16_t>());
  batch.take<uint16_t>();
  return leg == 0 ? std::optional(ends) : engine.endpoint_of_leg(leg);
}

/// local ip 16, zero: any | prefix as in peer_calls.cc 20, family 0: anywhere | whether it is answered u32.
session::ProbeRule take_probe_rule(const Napi::Value& value, Unpacker& batch) {
  session::ProbeRule rule;
  std::memcpy(rule.local, batch.take(sizeof rule.local).data(), sizeof rule.local);
  const Bytes from = batch.take(20);
  rule.answered = batch.take<uint32_t>() != 0;
  if (from[0] == 0) return rule;
  const auto prefix = session::Prefix::make(from[0], from.data() + 4, from[1]);
  if (!prefix.has_value()) throw_error(value.Env(), "BAD_ARGUMENT", "probeRules: not a prefix");
  rule.from = *prefix;
  return rule;
}

/// Packed: key 32 | whether path frames are answered u8 | id of the path of the control plane u8, 0: the
/// active one | number of rules on probes u16 |
/// number of paths u32 | silent after f64, ms | least round trip f64, ms | silent between reports f64, ms |
/// report every f64, ms | rules as above |
/// paths × (id u16 | share u16, 0: not split by | plpmtu u32, 0: not known | ends 48), repeated.
Napi::Value set_paths(Engine& engine, const Napi::CallbackInfo& info) {
  Unpacker batch(info[0], "paths");
  std::vector<session::PathSettings> sets;
  while (!batch.done()) {
    session::PathSettings& set = sets.emplace_back();
    set.peer = batch.take_key();
    set.answers = batch.take<uint8_t>() != 0;
    set.control = batch.take<uint8_t>();
    const auto rules = batch.take<uint16_t>();
    const auto count = batch.take<uint32_t>();
    set.timing.silent_after = nanoseconds(batch.take<double>());
    set.timing.least_round_trip = nanoseconds(batch.take<double>());
    set.timing.silent_between_reports = nanoseconds(batch.take<double>());
    set.timing.report_every = nanoseconds(batch.take<double>());
    for (uint16_t i = 0; i < rules; i++) set.probe_rules.push_back(take_probe_rule(info[0], batch));
    for (uint32_t i = 0; i < count; i++) {
      session::PathEnds path;
      path.id = static_cast<uint8_t>(batch.take<uint16_t>());
      path.share = batch.take<uint16_t>();
      path.plpmtu = batch.take<uint32_t>();
      const auto ends = take_ends(engine, batch);
      if (!ends.has_value()) continue;  // its leg is gone: the others are used
      path.ends = *ends;
      set.paths.push_back(path);
    }
  }
  engine.set_paths(sets);
  return info.Env().Undefined();
}

/// Packed: key 32 | token 8 | ends 48 | size u32 | zero u32, repeated.
Napi::Value send_probes(Engine& engine, const Napi::CallbackInfo& info) {
  Unpacker batch(info[0], "probes");
  while (!batch.done()) {
    session::PathProbe probe;
    probe.peer = batch.take_key();
    probe.token = batch.take<session::ProbeToken>();
    const auto to = take_ends(engine, batch);
    probe.size = batch.take<uint32_t>();
    batch.take<uint32_t>();
    if (to.has_value()) {
      probe.to = *to;
      engine.send_probe(probe);
    } else {
      engine.drop_probe();
    }
  }
  return info.Env().Undefined();
}

/// Packed: ip 16 | port u16 | zero u16 | zero u32, repeated.
Napi::Value set_ports(Engine& engine, const Napi::CallbackInfo& info) {
  Unpacker batch(info[0], "ports");
  std::vector<omerta_address> ports;
  while (!batch.done()) {
    ports.push_back(batch.take_address());
    batch.take<uint16_t>();
    batch.take<uint32_t>();
  }
  engine.set_ports(ports);
  return info.Env().Undefined();
}

/// Of each path of a peer: id, packets and bytes sent, packets and bytes received, ms since then or -1.
Napi::Value path_counts(Engine& engine, const Napi::CallbackInfo& info) {
  const auto counts = engine.sessions().path_counts(key_of(info[0], "peer"));
  const Nanoseconds now = boot_clock();
  auto out = Napi::Float64Array::New(info.Env(), counts.size() * 6);
  size_t at = 0;
  for (const session::PathCounts& path : counts) {
    out[at++] = path.id;
    out[at++] = static_cast<double>(path.sent_packets);
    out[at++] = static_cast<double>(path.sent_bytes);
    out[at++] = static_cast<double>(path.received_packets);
    out[at++] = static_cast<double>(path.received_bytes);
    const Nanoseconds age = now > path.last_received ? now - path.last_received : 0;
    out[at++] = path.last_received == 0 ? -1.0 : static_cast<double>(age) / 1e6;
  }
  return out;
}

constexpr EngineCall kCalls[] = {{"setPaths", set_paths},
                                 {"setPorts", set_ports},
                                 {"sendProbes", send_probes},
                                 {"pathCounts", path_counts}};

}  // namespace

std::span<const EngineCall> path_calls() { return kCalls; }

}  // namespace omerta::addon
