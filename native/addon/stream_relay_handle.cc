// SPDX-License-Identifier: Apache-2.0
#include "addon/stream_relay_handle.h"

#include <system_error>

#include "common/clock.h"

namespace omerta::addon {

Napi::Function StreamRelayHandle::define(Napi::Env env) {
  return DefineClass(
      env, "StreamRelay",
      {InstanceMethod<&StreamRelayHandle::join>("join"), InstanceMethod<&StreamRelayHandle::cut>("cut")});
}

StreamRelayHandle::StreamRelayHandle(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<StreamRelayHandle>(info) {
  told_ = Napi::ThreadSafeFunction::New(info.Env(), info[0].As<Napi::Function>(), "omerta streams", 0, 1);
  told_.Unref(info.Env());
  const auto idle = static_cast<Nanoseconds>(info[1].As<Napi::Number>().Int64Value()) * kMillisecond;
  relay_ = std::make_unique<exit::StreamRelay>(
      [told = told_](uint64_t pair, bool cut) mutable {
        told.NonBlockingCall([pair, cut](Napi::Env env, Napi::Function ended) {
          ended.Call({Napi::Number::New(env, static_cast<double>(pair)), Napi::Boolean::New(env, cut)});
        });
      },
      idle);
}

StreamRelayHandle::~StreamRelayHandle() {
  relay_.reset();
  told_.Release();
}

Napi::Value StreamRelayHandle::join(const Napi::CallbackInfo& info) {
  const auto socket = [&](size_t i) { return info[i].As<Napi::Number>().Int32Value(); };
  try {
    return Napi::Number::New(info.Env(), static_cast<double>(relay_->join(socket(0), socket(1))));
  } catch (const std::system_error& error) {
    return Napi::Number::New(info.Env(), -error.code().value());
  }
}

void StreamRelayHandle::cut(const Napi::CallbackInfo& info) {
  relay_->cut(static_cast<uint64_t>(info[0].As<Napi::Number>().Int64Value()));
}

}  // namespace omerta::addon
