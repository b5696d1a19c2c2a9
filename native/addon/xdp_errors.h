// SPDX-License-Identifier: Apache-2.0
// Failures of the kernel path, told to JavaScript.
#pragma once

#include <napi.h>

#include "addon/arguments.h"
#include "xdp/xdp_error.h"

namespace omerta::addon {

/// Runs what may throw XdpError; JavaScript gets its code, detail and number.
template <class Run>
auto told(Napi::Env env, const Run& run) {
  try {
    return run();
  } catch (const xdp::XdpError& failure) {
    Napi::Error error = Napi::Error::New(env, failure.what());
    error.Set("code", Napi::String::New(env, failure.name()));
    error.Set("detail", Napi::String::New(env, failure.detail()));
    error.Set("number", Napi::Number::New(env, static_cast<double>(failure.number())));
    throw error;
  }
}

}  // namespace omerta::addon
