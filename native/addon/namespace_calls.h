// SPDX-License-Identifier: Apache-2.0
// The helper in a private network namespace, for ts/exit/private-network.ts.
#pragma once

#include <napi.h>

namespace omerta::addon {

void export_namespace_calls(Napi::Env env, Napi::Object exports);

}  // namespace omerta::addon
