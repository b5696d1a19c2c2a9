// SPDX-License-Identifier: Apache-2.0
// What a gateway's threads ask of sockets that Node.js does not know of, for ts/exit/gateway-worker.ts.
#pragma once

#include <napi.h>

namespace omerta::addon {

void export_gateway_calls(Napi::Env env, Napi::Object exports);

}  // namespace omerta::addon
