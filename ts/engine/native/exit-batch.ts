// Exit rules in one buffer, as they cross into the native addon.

import { EngineError } from '../../contract/engine.js';
import type { ExitControl, ExitRule } from '../../contract/exit-control.js';
import { parsePrefix } from '../../wire/prefix.js';
import { PrefixBatch } from '../../wire/prefix-batch.js';
import type { NativeHandle } from './native-addon.js';

/** The part of the native engine that keeps to exit rules. `call`: as all calls of the addon are made. */
export function exitControl(handle: () => NativeHandle, call: <T>(run: () => T) => T): ExitControl {
  return {
    setExitRules: (rules, lan) => {
      const [exit, behind] = [packRules(rules), packRules(lan)];
      call(() => handle().setExitRules(exit, behind));
    },
  };
}

function packRules(rules: readonly ExitRule[]): Uint8Array {
  const batch = new PrefixBatch();
  for (const { prefix: text, denied } of rules) {
    const prefix = parsePrefix(text);
    if (prefix === undefined)
      throw new EngineError('BAD_ARGUMENT', `prefix: '${text}' is not a prefix such as 10.0.0.0/8`);
    batch.add(prefix, denied);
  }
  return batch.bytes;
}
