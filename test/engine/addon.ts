// Whether the native engine is there to be tested.

import { loadNativeAddon } from '../../ts/engine/native/native-addon.js';

/** Why the addon cannot be had; undefined when it loads. */
export function addonMissing(): string | undefined {
  try {
    loadNativeAddon();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
