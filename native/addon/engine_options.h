// SPDX-License-Identifier: Apache-2.0
// NativeOptions of ts/engine/native/native-addon.ts.
#pragma once

#include <napi.h>

#include "engine/settings.h"

namespace omerta::addon {

/// The private key in it is the caller's to wipe.
void read_options(const Napi::Object& options, engine::EngineSettings& settings);

}  // namespace omerta::addon
