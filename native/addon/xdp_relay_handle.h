// SPDX-License-Identifier: Apache-2.0
// The JavaScript object XdpRelay: a relay of the kernel path from its options to close().
#pragma once

#include <napi.h>

#include <memory>

#include "xdp/xdp_relay.h"

namespace omerta::addon {

class XdpRelayHandle : public Napi::ObjectWrap<XdpRelayHandle> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit XdpRelayHandle(const Napi::CallbackInfo& info);

 private:
  xdp::XdpRelay& open(Napi::Env env);

  void install_legs(const Napi::CallbackInfo& info);
  void remove_legs(const Napi::CallbackInfo& info);
  Napi::Value legs(const Napi::CallbackInfo& info);
  Napi::Value leg_counters(const Napi::CallbackInfo& info);
  Napi::Value routes(const Napi::CallbackInfo& info);
  Napi::Value replace_routes(const Napi::CallbackInfo& info);

  void activate(const Napi::CallbackInfo& info);
  void check(const Napi::CallbackInfo& info);
  Napi::Value status(const Napi::CallbackInfo& info);
  Napi::Value counters(const Napi::CallbackInfo& info);

  Napi::Value indices(const Napi::CallbackInfo& info);
  Napi::Value expected(const Napi::CallbackInfo& info);
  Napi::Value door(const Napi::CallbackInfo& info);
  Napi::Value windows(const Napi::CallbackInfo& info);
  void set_indices_known(const Napi::CallbackInfo& info);
  Napi::Value accounts(const Napi::CallbackInfo& info);

  void close(const Napi::CallbackInfo& info);

  std::unique_ptr<xdp::XdpRelay> relay_;
};

/// Names of what counters() counts, in its order.
Napi::Value xdp_counter_names(Napi::Env env);

}  // namespace omerta::addon
