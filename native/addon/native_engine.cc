// SPDX-License-Identifier: Apache-2.0
#include "addon/native_engine.h"

#include <sodium.h>

#include "addon/arguments.h"
#include "addon/engine_options.h"
#include "addon/failures.h"

namespace omerta::addon {
namespace {

class Wiped {
 public:
  explicit Wiped(Key32& key) : key_(key) {}
  ~Wiped() { sodium_memzero(key_.data(), key_.size()); }
  Wiped(const Wiped&) = delete;
  Wiped& operator=(const Wiped&) = delete;

 private:
  Key32& key_;
};

}  // namespace

Napi::Function NativeEngine::define(Napi::Env env) {
  std::vector<PropertyDescriptor> properties = {
      InstanceAccessor<&NativeEngine::port>("port"),
      InstanceMethod<&NativeEngine::event_memory>("eventMemory"),
      InstanceMethod<&NativeEngine::counter_memory>("counterMemory"),
      InstanceMethod<&NativeEngine::instrument_memory>("instrumentMemory"),
      InstanceMethod<&NativeEngine::close>("close"),
  };
  for (const auto group : {peer_calls(), message_calls(), path_calls(), shaping_calls(), exit_calls(),
                           guest_calls(), leg_calls(), limit_calls(), wireguard_relay_calls(),
                           kernel_path_calls(), interface_calls(), status_calls()})
    for (const EngineCall& each : group)
      properties.push_back(
          InstanceMethod<&NativeEngine::call>(each.name, napi_default, const_cast<EngineCall*>(&each)));
  return DefineClass(env, "NativeEngine", properties);
}

NativeEngine::NativeEngine(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NativeEngine>(info) {
  const Napi::Env env = info.Env();
  engine::EngineSettings settings;
  const Wiped wiped(settings.private_key);
  read_options(info[0].As<Napi::Object>(), settings);
  engine_ = told(env, [&] { return std::make_shared<engine::Engine>(settings); });
  wake_ = Napi::ThreadSafeFunction::New(env, info[1].As<Napi::Function>(), "omerta events", 0, 1);
  engine_->events().on_wake([engine = engine_.get(), wake = wake_]() mutable {
    // The mark is taken back before JavaScript reads, so that nothing written later is missed.
    wake.NonBlockingCall([engine](Napi::Env, Napi::Function drain) {
      engine->events().draining();
      drain.Call({});
    });
  });
}

Napi::Value NativeEngine::call(const Napi::CallbackInfo& info) {
  if (closed_) throw_error(info.Env(), "CLOSED", "the engine is closed");
  const auto* each = static_cast<const EngineCall*>(info.Data());
  return told(info.Env(), [&] { return each->run(*engine_, info); });
}

void NativeEngine::shut_down() {
  if (closed_ || !engine_) return;
  closed_ = true;
  engine_->close();  // after this no worker calls wake
  wake_.Release();
}

Napi::Value NativeEngine::port(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), engine_->port());
}

Napi::Value NativeEngine::shared_memory(Napi::Env env, void* data, size_t size) {
  // The buffer keeps the engine's memory alive, however long JavaScript holds it.
  auto* owner = new std::shared_ptr<engine::Engine>(engine_);
  return Napi::ArrayBuffer::New(env, data, size, [owner](Napi::Env, void*) { delete owner; });
}

Napi::Value NativeEngine::event_memory(const Napi::CallbackInfo& info) {
  return shared_memory(info.Env(), engine_->events().data(), engine_->events().size());
}

Napi::Value NativeEngine::counter_memory(const Napi::CallbackInfo& info) {
  return shared_memory(info.Env(), engine_->counters(), sizeof(CounterRow) * (engine_->workers() + 1));
}

Napi::Value NativeEngine::instrument_memory(const Napi::CallbackInfo& info) {
  return shared_memory(info.Env(), engine_->instruments(), sizeof(engine::Instruments) * engine_->workers());
}

}  // namespace omerta::addon
