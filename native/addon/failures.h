// SPDX-License-Identifier: Apache-2.0
// What C++ throws, as JavaScript is told it: an error with a code.
#pragma once

#include <napi.h>

#include <stdexcept>

#include "addon/arguments.h"
#include "common/step_failed.h"

namespace omerta::addon {

template <class Run>
auto told(Napi::Env env, const Run& run) {
  try {
    return run();
  } catch (const Napi::Error&) {
    throw;  // it is told already
  } catch (const StepFailed& failure) {
    Napi::Error error = Napi::Error::New(env, failure.what());
    error.Set("code", "STEP_FAILED");
    error.Set("step", failure.step());
    error.Set("subject", failure.subject());
    error.Set("errno", Napi::Number::New(env, failure.code().value()));
    throw error;
  } catch (const std::logic_error& error) {  // std::invalid_argument, std::out_of_range
    throw_error(env, "BAD_ARGUMENT", error.what());
  } catch (const std::exception& error) {
    throw_error(env, "FAILED", error.what());
  }
}

}  // namespace omerta::addon
