// SPDX-License-Identifier: Apache-2.0
// What the engine runs with: accelerators with their reasons, sockets and what waits in them.
#include "addon/arguments.h"
#include "addon/engine_calls.h"

namespace omerta::addon {
namespace {

using engine::Accelerator;
using engine::Accelerators;
using engine::AcceleratorState;
using engine::Engine;

constexpr std::array kTunOffloads = {Accelerator::tun_checksum, Accelerator::tun_tcp, Accelerator::tun_udp};

/// NativeAccelerator of ts/engine/native/native-addon.ts.
void append(Napi::Array list, std::string_view name, AcceleratorState state, const Reason& reason) {
  auto out = Napi::Object::New(list.Env());
  out.Set("name", std::string(name));
  out.Set("state", std::string(Accelerators::name(state)));
  out.Set("reason", std::string(reason.code));
  out.Set("detail", reason.detail);
  out.Set("number", reason.number);
  list.Set(list.Length(), out);
}

void append(Napi::Array list, const Accelerators& accelerators, Accelerator accelerator) {
  append(list, Accelerators::name(accelerator), accelerators.state(accelerator),
         accelerators.reason(accelerator));
}

/// Of one that is chosen elsewhere and only demoted by Accelerators.
void append(Napi::Array list, const Accelerators& accelerators, Accelerator accelerator,
            AcceleratorState chosen, const Reason& reason) {
  if (accelerators.state(accelerator) == AcceleratorState::demoted)
    append(list, accelerators, accelerator);
  else
    append(list, Accelerators::name(accelerator), chosen, reason);
}

AcceleratorState state_of(bool on, const Reason& reason) {
  if (on) return AcceleratorState::on;
  return reason.code == "switched-off" ? AcceleratorState::off : AcceleratorState::unavailable;
}

AcceleratorState state_of_io(const Engine& engine) {
  if (engine.io_name() == std::string_view("io_uring")) return AcceleratorState::on;
  return engine.io().refused ? AcceleratorState::unavailable : AcceleratorState::off;
}

Napi::Array accelerators_of(Napi::Env env, const Engine& engine) {
  const Accelerators& accelerators = engine.accelerators();
  auto list = Napi::Array::New(env);
  const crypto::AeadChoice aead = engine.aead();
  const crypto::SuiteChoice& gcm = aead.of(crypto::Suite::aes_256_gcm);
  append(list, accelerators, Accelerator::ipsec_mb, state_of(aead.ipsec_mb(), aead.ipsec_mb_reason),
         aead.ipsec_mb_reason);
  append(list, accelerators, Accelerator::io_uring, state_of_io(engine), engine.io().reason);
  append(list, "aes-256-gcm", state_of(gcm.available, gcm.reason), gcm.reason);
  for (const Accelerator each : {Accelerator::udp_gro, Accelerator::udp_gso})
    append(list, accelerators, each);
  if (engine.tun() != nullptr)
    for (const Accelerator each : kTunOffloads) append(list, accelerators, each);
  if (engine.socket() != nullptr) {
    const udp::Steering& steering = engine.steering();
    const bool needed = steering.reason.code != "one-worker";
    append(list, "steering", needed ? state_of(steering.on, steering.reason) : AcceleratorState::off,
           steering.reason);
  }
  return list;
}

/// NativeDescription of ts/engine/native/native-addon.ts.
Napi::Value describe(Engine& engine, const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto out = Napi::Object::New(env);
  out.Set("workers", static_cast<double>(engine.workers()));
  out.Set("indexSlots", static_cast<double>(engine.index_slots()));
  out.Set("aead", engine.aead().name());
  out.Set("accelerators", accelerators_of(env, engine));
  out.Set("peersWithoutGso", static_cast<double>(engine.accelerators().peers_without_gso()));
  if (const udp::UdpSocket* socket = engine.socket(); socket != nullptr) {
    out.Set("receiveBufferBytes", socket->receive_buffer_bytes());
    out.Set("sendBufferBytes", socket->send_buffer_bytes());
  }
  if (const tun::TunDevice* tun = engine.tun(); tun != nullptr && !engine.interface_gone())
    out.Set("tun", tun->name());
  return out;
}

/// Of each worker: receive, its limit, send, its limit, in bytes of kernel memory.
Napi::Value queues(Engine& engine, const Napi::CallbackInfo& info) {
  const std::vector<udp::Queues> all = engine.queues();
  auto out = Napi::Uint32Array::New(info.Env(), 4 * all.size());
  for (size_t i = 0; i < all.size(); i++) {
    out[4 * i] = all[i].receive;
    out[4 * i + 1] = all[i].receive_limit;
    out[4 * i + 2] = all[i].send;
    out[4 * i + 3] = all[i].send_limit;
  }
  return out;
}

constexpr EngineCall kCalls[] = {{"describe", describe}, {"queues", queues}};

}  // namespace

std::span<const EngineCall> status_calls() { return kCalls; }

Napi::Value test_tun_offloads(const Napi::CallbackInfo& info) {
  auto list = Napi::Array::New(info.Env());
  const Accelerators found({false, false, true, true, true}, true);
  for (const Accelerator each : kTunOffloads) append(list, found, each);
  return list;
}

}  // namespace omerta::addon
