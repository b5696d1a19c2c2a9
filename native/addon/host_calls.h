// SPDX-License-Identifier: Apache-2.0
// Facts of the host that Node.js does not tell.
#pragma once

#include <napi.h>

namespace omerta::addon {

void export_host_calls(Napi::Env env, Napi::Object exports);

}  // namespace omerta::addon
