// The conformance scenarios with the native engine on all sides, and with both engines mixed.

import { describe, test } from 'node:test';
import { EngineError, type EngineOptions } from '../../ts/contract/engine.js';
import { loadNativeAddon } from '../../ts/engine/native/native-addon.js';
import { openNativeEngine } from '../../ts/engine/native/native-engine.js';
import { openWasmEngine } from '../../ts/engine/wasm/wasm-engine.js';
import { conformanceScenarios, interfacesOfTwoLoopbacks, type ConformanceEngines } from './conformance.js';
import { paddedProbe, pathScenarios } from './path-conformance.js';

/** Why the native engine cannot take part, or false. */
function whyNot(): string | false {
  try {
    loadNativeAddon();
    return false;
  } catch (error) {
    if (error instanceof EngineError) return error.message;
    throw error;
  }
}

const skip = whyNot();
if (skip !== false) console.log(`cross-engine tests are skipped: ${skip}`);

const native = (options: EngineOptions): ReturnType<typeof openNativeEngine> => openNativeEngine(options);
const wasm = (options: EngineOptions): ReturnType<typeof openWasmEngine> =>
  openWasmEngine(options, interfacesOfTwoLoopbacks);
const combinations: Readonly<Record<string, ConformanceEngines>> = {
  'native throughout': { a: native, b: native, relay: native },
  'native starts, wasm answers, native relays': { a: native, b: wasm, relay: native },
  'wasm starts, native answers, wasm relays': { a: wasm, b: native, relay: wasm },
};

for (const [name, engines] of Object.entries(combinations)) {
  describe(name, { skip }, () => {
    for (const scenario of conformanceScenarios) test(scenario.name, () => scenario.run(engines));
  });
}

for (const [name, engines] of Object.entries(combinations)) {
  describe(`several ways to one peer: ${name}`, { skip }, () => {
    for (const scenario of pathScenarios) test(scenario.name, () => scenario.run(engines));
    if (engines.a === native) test(paddedProbe.name, () => paddedProbe.run(engines));
  });
}
