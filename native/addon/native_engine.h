// SPDX-License-Identifier: Apache-2.0
// The JavaScript object NativeEngine: it owns an engine from its options to close(), and hands its methods
// to the groups of engine_calls.h.
#pragma once

#include <napi.h>

#include <memory>

#include "addon/engine_calls.h"

namespace omerta::addon {

class NativeEngine : public Napi::ObjectWrap<NativeEngine> {
 public:
  static Napi::Function define(Napi::Env env);
  /// (options, called when there are events)
  explicit NativeEngine(const Napi::CallbackInfo& info);
  ~NativeEngine() override { shut_down(); }

 private:
  /// Runs the EngineCall that the method was defined with.
  Napi::Value call(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo&) { shut_down(); }
  void shut_down();

  // These can be had of a closed engine as well.
  Napi::Value port(const Napi::CallbackInfo& info);
  Napi::Value event_memory(const Napi::CallbackInfo& info);
  Napi::Value counter_memory(const Napi::CallbackInfo& info);
  Napi::Value instrument_memory(const Napi::CallbackInfo& info);
  Napi::Value shared_memory(Napi::Env env, void* data, size_t size);

  std::shared_ptr<engine::Engine> engine_;
  Napi::ThreadSafeFunction wake_;
  bool closed_ = false;
};

}  // namespace omerta::addon
