// Exit rules, guests and where these ask for names, each in one buffer, as they cross into the native addon.

import { EngineError } from '../../contract/engine.js';
import type {
  ExitControl,
  ExitRule,
  StackControl,
  StackGuest,
  StackNames,
} from '../../contract/exit-control.js';
import { parsePrefix } from '../../wire/prefix.js';
import { PrefixBatch } from '../../wire/prefix-batch.js';
import { parseIp } from '../../wire/socket-address.js';
import type { NativeHandle } from './native-addon.js';

/** native/addon/exit_calls.cc has what is where. */
const GUEST_BYTES = 24;
const NAMES_BYTES = 20;

type Call = <T>(run: () => T) => T;

/** The part of the native engine that keeps to exit rules. `call`: as all calls of the addon are made. */
export function exitControl(handle: () => NativeHandle, call: Call, hasStack: boolean): ExitControl {
  return {
    stack: hasStack ? stackControl(handle, call) : undefined,
    setExitRules: (rules, lan) => {
      const [exit, behind] = [packRules(rules), packRules(lan)];
      call(() => handle().setExitRules(exit, behind));
    },
  };
}

function stackControl(handle: () => NativeHandle, call: Call): StackControl {
  return {
    setGuests: (guests) => {
      const packed = packGuests(guests);
      call(() => handle().setExitGuests(packed));
    },
    setNames: (names) => {
      const packed = packNames(names);
      call(() => handle().setExitNames(packed));
    },
    counts: () => {
      const [tcp = 0, udp = 0, refused = 0, flowsTooFast = 0, datagramsTooFast = 0] = call(() =>
        handle().exitCounts(),
      );
      return { tcp, udp, refused, flowsTooFast, datagramsTooFast };
    },
  };
}

function packGuests(guests: readonly StackGuest[]): Uint8Array {
  const packed = new Uint8Array(guests.length * GUEST_BYTES);
  guests.forEach(({ address, exit, lan, asksFrom }, index) => {
    const at = index * GUEST_BYTES;
    packed.set(addressOf(address), at);
    packed.set(addressOf(asksFrom).subarray(12), at + 16);
    packed[at + 20] = Number(exit);
    packed[at + 21] = Number(lan);
  });
  return packed;
}

function packNames(names: readonly StackNames[]): Uint8Array {
  const packed = new Uint8Array(names.length * NAMES_BYTES);
  const view = new DataView(packed.buffer);
  names.forEach(({ address, udp, tcp }, index) => {
    const at = index * NAMES_BYTES;
    packed.set(addressOf(address), at);
    view.setUint16(at + 16, udp, true);
    view.setUint16(at + 18, tcp, true);
  });
  return packed;
}

/** 16 bytes. @throws EngineError */
function addressOf(text: string): Uint8Array {
  const ip = parseIp(text);
  if (ip === undefined) throw new EngineError('BAD_ARGUMENT', `address: '${text}' is no IP address`);
  return ip;
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
