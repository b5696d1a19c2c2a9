// What `omerta doctor` looks at: can this machine run a relay, can it be a member, what is in use to
// be fast, and what to type for what is missing.

import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { networkInterfaces, release } from 'node:os';
import { join } from 'node:path';
import type { Accelerator, Engine, EngineDescription, EngineOptions } from '../../contract/engine.js';
import { openNative, openWasm } from '../../engine/open-engine.js';
import type { Config } from '../config/config.js';
import { ControlClient } from '../control/control-client.js';
import { isLiveSocket } from '../control/live-socket.js';
import type { DaemonStatus, LogStatus } from '../../status/model/daemon-status.js';
import { defaultRouteDevices, deviceTuning, hostSettings } from '../../host/host-tuning.js';
import { loadIdentity } from '../state/identity.js';
import { exitCheck, missingPrograms, pingCheck } from './exit-checks.js';
import { kernelPathChecks } from './kernel-path-checks.js';
import { providerChecks } from './provider-checks.js';
import { loadNetworks } from '../state/network-files.js';
import { OperatorError, messageOf, systemErrorCode } from '../../host/operator-error.js';
import { requirePrivate, type StateDirectory } from '../state/state-directory.js';
import { deviceProblem, tunAccess } from '../../host/tun-access.js';
import { pingsClosed } from '../../host/ping-access.js';
import { PrivateNetwork } from '../../exit/private-network.js';
import { packageRoot } from '../../host/version.js';

export interface Check {
  readonly name: string;
  readonly ok: boolean;
  /** Whether a relay cannot run without it. */
  readonly required: boolean;
  readonly detail: string;
  /** What to type; undefined when nothing has to be done, or can be. */
  readonly remedy: string | undefined;
}

/** A receive buffer of this size holds what arrives while a worker waits for the CPU. */
const WANTED_BUFFER_BYTES = 8 * 1024 * 1024;

function passed(name: string, detail: string): Check {
  return { name, ok: true, required: false, detail, remedy: undefined };
}

function missing(name: string, detail: string, remedy: string | undefined): Check {
  return { name, ok: false, required: false, detail, remedy };
}

function failed(name: string, error: unknown): Check {
  const [detail, remedy] =
    error instanceof OperatorError
      ? [`${error.field}: ${error.expected}`, error.next]
      : [messageOf(error), undefined];
  return { name, ok: false, required: true, detail, remedy };
}

/** Of a host that may have one family alone. */
function loopbackAddress(): string {
  const present = Object.values(networkInterfaces()).flatMap((infos) => infos ?? []);
  const has = (wanted: string): boolean => present.some(({ address }) => address === wanted);
  return !has('127.0.0.1') && has('::1') ? '::1' : '127.0.0.1';
}

/** Opens an engine on a port of the kernel's choosing on loopback, describes and closes it. */
async function tryEngine(
  open: (options: EngineOptions) => Promise<Engine>,
): Promise<EngineDescription | { readonly error: string }> {
  try {
    const engine = await open({
      privateKey: new Uint8Array(randomBytes(32)),
      port: 0,
      bind: loopbackAddress(),
      workers: 2, // so that what several need is tried too
      maxLegs: 16,
      maxPeers: 16,
      controlFramesPerSecond: 1,
      io: 'auto',
    });
    try {
      return engine.describe();
    } finally {
      await engine.close();
    }
  } catch (error) {
    return { error: messageOf(error) };
  }
}

async function engineChecks(): Promise<Check[]> {
  const native = await tryEngine(openNative);
  const wasm = await tryEngine(openWasm);
  const checks: Check[] = [];
  if ('error' in native) checks.push(missing('native engine', native.error, 'npm run build'));
  else checks.push(passed('native engine', native.summary));
  if ('error' in wasm) checks.push(missing('wasm engine', wasm.error, 'npm run build'));
  else checks.push(passed('wasm engine', wasm.summary));
  const used = 'error' in native ? wasm : native;
  if ('error' in used)
    return [
      ...checks,
      {
        name: 'engine',
        ok: false,
        required: true,
        detail: 'no engine can be loaded',
        remedy: 'npm run build',
      },
    ];
  checks.push(passed('aead', used.aead));
  const offloads = 'error' in native ? [] : await tunOffloads();
  return [...checks, ...[...used.accelerators, ...offloads].map(acceleratorCheck)];
}

function acceleratorCheck({ name, state, reason, remedy }: Accelerator): Check {
  return {
    name: `accelerator ${name}`,
    // What was measured not to pay is off as it should be.
    ok: state === 'on' || state === 'off',
    required: false,
    detail: reason === '' ? state : `${state}: ${reason}`,
    remedy,
  };
}

/** Those of the interface a member has; the engine above has none. */
async function tunOffloads(): Promise<readonly Accelerator[]> {
  if (!tunAccess().ok) return [];
  const { testTunOffloads } = await import('../../engine/native/native-engine.js');
  return testTunOffloads();
}

/** What of a running daemon's accelerators an operator should know of: a fresh engine does not. */
function troubled({ name, state, remedy }: Accelerator): boolean {
  // The kernel path is listed only where it was asked for; a part of it may be on and still want something.
  if (name === 'xdp' || name.startsWith('xdp ')) return state === 'unavailable' || remedy !== undefined;
  return state === 'demoted';
}

function logChecks({ lost, error }: LogStatus): Check[] {
  const name = "running daemon's log";
  if (error !== undefined)
    return [
      missing(
        name,
        `it cannot be written (${error}), ${lost} lines are lost so far; the daemon goes on without`,
        error === 'ENOSPC' ? 'make room on its disk: df -h' : 'see where its standard error goes',
      ),
    ];
  return lost === 0 ? [] : [missing(name, `${lost} lines were lost; it can be written again`, undefined)];
}

function storeChecks({ error, damaged }: DaemonStatus['store']): Check[] {
  const name = "running daemon's store";
  if (error !== undefined)
    return [
      missing(
        name,
        `it cannot be written (${error}): the daemon goes on, and what it learns is lost at the next start`,
        error === 'ENOSPC' ? 'make room on its disk: df -h' : 'see the log of the system: dmesg',
      ),
    ];
  return damaged === undefined
    ? []
    : [missing(name, `it was damaged and begun anew; the old one was put aside`, `rm ${damaged}`)];
}

function tunnelChecks(tunnel: DaemonStatus['tunnel']): Check[] {
  if (tunnel === undefined) return [];
  const { name, state, missing: addresses, unrouted } = tunnel;
  const subject = `running daemon's ${name}`;
  const checks: Check[] = [];
  if (state === 'down' || state === 'gone' || state === 'elsewhere') {
    const remedies = {
      down: `ip link set ${name} up`,
      elsewhere: 'omerta down, then omerta up',
      gone: undefined,
    };
    return [missing(subject, `it is ${state}`, remedies[state])];
  }
  if (addresses.length > 0)
    checks.push(
      missing(
        subject,
        `it cannot have ${addresses.join(' ')}`,
        'sysctl net.ipv6.conf.all.disable_ipv6 tells whether IPv6 is switched off; the rest works without',
      ),
    );
  for (const address of unrouted)
    checks.push(
      missing(
        subject,
        `no route leads by it to the network of ${address}: another one comes first, and cannot be replaced`,
        'ip route show table all tells which',
      ),
    );
  return checks;
}

/** What a running daemon has to complain of. */
async function complaints(socket: string): Promise<Check[]> {
  const client = await ControlClient.connectIfRunning(socket);
  if (client === undefined) return [];
  try {
    const { engine, log, store, tunnel } = (await client.request({ command: 'status' })) as DaemonStatus;
    const demoted = engine.accelerators
      .filter(troubled)
      .map(({ name, state, reason, remedy }) =>
        missing(
          `running daemon's ${name}`,
          `${state}: ${reason}`,
          remedy ?? 'omerta down, then start it again, to have it tried anew',
        ),
      );
    return [...demoted, ...logChecks(log), ...storeChecks(store), ...tunnelChecks(tunnel)];
  } catch (error) {
    return [missing('running daemon', messageOf(error), 'omerta status')];
  } finally {
    client.close();
  }
}

/** @param granted whether the engine got buffers of the size it wants all the same. */
function socketBufferChecks(granted: boolean): Check[] {
  return ['rmem_max', 'wmem_max'].map((name) => {
    const path = `/proc/sys/net/core/${name}`;
    if (!existsSync(path)) return missing(`net.core.${name}`, 'not visible in this container', undefined);
    const bytes = Number(readFileSync(path, 'utf8'));
    const detail = `${bytes} bytes`;
    return bytes >= WANTED_BUFFER_BYTES || granted
      ? passed(`net.core.${name}`, granted ? `${detail}; the engine has what it needs` : detail)
      : missing(
          `net.core.${name}`,
          `${detail}: bursts are lost when a worker waits for the CPU`,
          `sudo sysctl -w net.core.${name}=${WANTED_BUFFER_BYTES}`,
        );
  });
}

/** Bursts joined before the socket cost a relay a seventh (docs/benchmarks.md); waiting for them costs time. */
function hostTuningChecks(): Check[] {
  return defaultRouteDevices(hostSettings).map((device) => {
    const name = `host tuning ${device}`;
    const tuning = deviceTuning(device, hostSettings);
    if ('unknown' in tuning) return missing(name, `cannot be told: ${tuning.unknown}`, tuning.remedy);
    return tuning.remedy === undefined
      ? passed(name, 'single datagrams are joined before the socket; each may wait up to gro_flush_timeout')
      : missing(
          name,
          `single datagrams are not joined before the socket (${tuning.missing.join(', ')}). Joined, bursts ` +
            'cost a relay less CPU, and a kernel path on a veth fewer wake-ups; every packet may then wait up to ' +
            '200 µs longer, and it lasts until the next boot',
          tuning.remedy,
        );
  });
}

function clockCheck(root: string): Check {
  // A clock before the day this was built is wrong; records would be refused as being of the future.
  const built = statSync(join(root, 'package.json')).mtimeMs;
  const now = Date.now();
  const text = new Date(now).toISOString();
  return now >= built - 86_400_000
    ? passed('clock', text)
    : missing('clock', `${text} is before this program was built`, 'sudo timedatectl set-ntp true');
}

/** Whether `omerta up --no-tun` has all it needs, by making what it makes. */
function privateNetworkCheck(): Check {
  const name = 'private network';
  const device = deviceProblem();
  if (device !== undefined)
    return missing(name, `${device.reason}: "omerta up --no-tun" needs it`, device.remedy);
  try {
    PrivateNetwork.make().close();
    return passed(name, 'user and network namespaces can be made');
  } catch (error) {
    if (!(error instanceof OperatorError)) return missing(name, messageOf(error), undefined);
    return missing(
      name,
      `${error.expected}: "omerta up --no-tun" needs one`,
      error.next.replace(/^Type: /, ''),
    );
  }
}

/** Whether no other program has a UDP port. */
function portIsFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket({ type: 'udp6', ipv6Only: false });
    socket.once('error', (error) => {
      socket.close();
      resolve(systemErrorCode(error) !== 'EADDRINUSE');
    });
    socket.bind(port, () => socket.close(() => resolve(true)));
  });
}

/** All checks, in the order they are shown. */
export async function diagnose(state: StateDirectory, load: () => Config): Promise<Check[]> {
  const root = packageRoot();
  const checks = await engineChecks();
  const tun = tunAccess();
  const network = privateNetworkCheck();
  const hasNativeEngine = checks.some(({ name, ok }) => name === 'native engine' && ok);
  checks.push(
    tun.ok
      ? passed('tun', tun.reason)
      : missing('tun', `${tun.reason}: "omerta up" needs it, a relay does not`, tun.remedy),
    network,
    exitCheck({ hasNativeEngine, tun, network, notInstalled: missingPrograms() }),
    pingCheck(pingsClosed()),
    passed('kernel', `Linux ${release()}, Node.js ${process.version}`),
    ...socketBufferChecks(checks.some(({ name, ok }) => name === 'accelerator udp-buffers' && ok)),
    ...hostTuningChecks(),
    ...kernelPathChecks(),
    ...(await providerChecks(state)),
    clockCheck(root),
  );

  let config: Config | undefined;
  try {
    config = load();
    checks.push(passed('configuration', 'valid'));
  } catch (error) {
    checks.push(failed('configuration', error));
  }
  const running = await isLiveSocket(state.socket);
  try {
    if (state.exists()) {
      requirePrivate('state', state.path);
      const identity = loadIdentity(state);
      const networks = loadNetworks(state).map(({ name }) => name);
      checks.push(
        passed('state directory', `${state.path}, private`),
        passed('identity', identity?.peerId ?? 'none yet; the first start makes one'),
        passed('networks', networks.length === 0 ? 'none yet' : networks.join(', ')),
      );
    } else checks.push(passed('state directory', `${state.path} is made at the first start`));
  } catch (error) {
    checks.push(failed('state directory', error));
  }
  checks.push(passed('daemon', running ? 'running' : 'not running'));
  if (running) checks.push(...(await complaints(state.socket)));
  if (config !== undefined && !running) {
    const { port } = config.node;
    checks.push(
      (await portIsFree(port))
        ? passed('port', `UDP ${port} is free`)
        : {
            ...missing('port', `UDP ${port} is taken by another program`, 'omerta relay --port N'),
            required: true,
          },
    );
  }
  return checks;
}
