// Which engine moves the packets: the native one where it loads, else the WebAssembly one, which
// can relay but has no TUN interface.

import { KernelPathEngine, accelerationError, type Acceleration } from './xdp/kernel-path-engine.js';
import { EngineError, type Engine, type EngineOptions } from '../contract/engine.js';
import { NativeEngine } from './native/native-engine.js';

export type EngineChoice = 'auto' | 'native' | 'wasm';

export interface OpenedEngine {
  readonly engine: Engine;
  /** Why the native engine was not taken although nobody asked for another; one line. */
  readonly fallback: string | undefined;
}

/** Opens the native engine, loading its module only now: it may be the one that is missing. */
export async function openNative(options: EngineOptions): Promise<Engine> {
  const { openNativeEngine } = await import('./native/native-engine.js');
  return openNativeEngine(options);
}

/** Opens the WebAssembly engine. */
export async function openWasm(options: EngineOptions): Promise<Engine> {
  const { openWasmEngine } = await import('./wasm/wasm-engine.js');
  return openWasmEngine(options);
}

/**
 * Opens the engine that was chosen.
 * @throws EngineError of the engine; ENGINE_UNAVAILABLE when a TUN interface is wanted and the native engine
 * cannot be loaded; BAD_ARGUMENT when it is wanted of the wasm engine. Only ENGINE_UNAVAILABLE leads to a fallback: a port in use is one
 * for every engine.
 */
export async function openEngine(
  choice: EngineChoice,
  options: EngineOptions,
  open = { native: openNative, wasm: openWasm },
): Promise<OpenedEngine> {
  if (choice === 'wasm') {
    if (options.tun !== undefined)
      throw new EngineError(
        'BAD_ARGUMENT',
        'the wasm engine has no TUN interface: use --engine native, or run a relay',
      );
    if (options.stack !== undefined)
      throw new EngineError('BAD_ARGUMENT', 'the wasm engine has no TCP/IP stack: use --engine native');
    if (options.guest !== undefined)
      throw new EngineError('BAD_ARGUMENT', 'the wasm engine serves no virtual machine: use --engine native');
    return { engine: await open.wasm(options), fallback: undefined };
  }
  try {
    return { engine: await open.native(options), fallback: undefined };
  } catch (error) {
    const unavailable = error instanceof EngineError && error.code === 'ENGINE_UNAVAILABLE';
    const hasInside = [options.tun, options.stack, options.guest].some((inside) => inside !== undefined);
    if (!unavailable || choice === 'native' || hasInside) throw error;
    return { engine: await open.wasm(options), fallback: error.message };
  }
}

/**
 * Puts the kernel path in front of a native engine. Another engine has none: then undefined, or an error
 * when it is required.
 * @throws EngineError XDP_PERMISSION, XDP_UNAVAILABLE; the engine is closed then.
 */
export async function openKernelPath(
  engine: Engine,
  acceleration: Acceleration,
): Promise<KernelPathEngine | undefined> {
  try {
    if (engine instanceof NativeEngine) return new KernelPathEngine(engine, acceleration);
    if (!acceleration.required) return undefined;
    throw new EngineError('XDP_UNAVAILABLE', 'only the native engine has one. Type: npm run build');
  } catch (error) {
    await engine.close();
    throw accelerationError(error);
  }
}
