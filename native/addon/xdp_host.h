// SPDX-License-Identifier: Apache-2.0
// What the kernel path can be told of this host without a relay: its interfaces, whether the kernel path
// works here, and relays an earlier daemon left loaded.
#pragma once

#include <napi.h>

namespace omerta::addon {

void define_xdp_host(Napi::Env env, Napi::Object exports);

}  // namespace omerta::addon
