// SPDX-License-Identifier: Apache-2.0
// The JavaScript object StreamRelay: joined connections, for ts/exit/relayed-stream.ts.
#pragma once

#include <napi.h>

#include <memory>

#include "exit/stream_relay.h"

namespace omerta::addon {

class StreamRelayHandle : public Napi::ObjectWrap<StreamRelayHandle> {
 public:
  static Napi::Function define(Napi::Env env);
  /// (ended: (pair, isCut) => void, idleMs). It keeps no thread of Node.js running.
  explicit StreamRelayHandle(const Napi::CallbackInfo& info);
  ~StreamRelayHandle() override;

 private:
  /// (a, b) => pair, or below 0 the errno.
  Napi::Value join(const Napi::CallbackInfo& info);
  void cut(const Napi::CallbackInfo& info);

  Napi::ThreadSafeFunction told_;
  std::unique_ptr<exit::StreamRelay> relay_;
};

}  // namespace omerta::addon
