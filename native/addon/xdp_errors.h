// SPDX-License-Identifier: Apache-2.0
// Failures of the kernel path, told to JavaScript.
#pragma once

#include <napi.h>

#include "addon/arguments.h"
#include "xdp/xdp_error.h"

namespace omerta::addon {

/// Runs what may throw XdpError; JavaScript gets its code, message and remedy (empty: none).
template <class Run>
auto told(Napi::Env env, const Run& run) {
  try {
    return run();
  } catch (const xdp::XdpError& failure) {
    Napi::Error error = Napi::Error::New(env, failure.what());
    error.Set("code", Napi::String::New(env, failure.name()));
    error.Set("remedy", Napi::String::New(env, failure.remedy()));
    throw error;
  }
}

}  // namespace omerta::addon
