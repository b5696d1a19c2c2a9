// How many lines the inputs in git reach of the files that read bytes of others, by their replay.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { output } from './command.mjs';
import { withTable } from './derived-tables.mjs';
import { root } from './paths.mjs';
import { filesUnder } from './stamp.mjs';

/** What `npm run fuzz -- --coverage` asks of every file below. */
const LEAST_PERCENT = 95;

/**
 * The files, by the target that reads the most of them. C++ files by name, wherever in native/ they lie.
 * TypeScript: below ts/.
 */
export const PARSERS = {
  fuzz_frame: ['wire.h', 'tag_pair.h'],
  fuzz_stun: ['stun.cc'],
  fuzz_allowed_ips: ['allowed_ips.cc'],
  fuzz_leg_limits: ['limits.h', 'leg_window.h'],
  fuzz_tables: ['forwarding_table.cc', 'leg_slots.h', 'tag_lanes.cc', 'accounts.cc'],
  fuzz_session_machine: ['cookie.cc', 'suite_offer.cc', 'suite_negotiation.cc', 'handshakes.cc'],
  fuzz_path_set: ['path_frame.cc', 'path_set.cc', 'paths.cc'],
  fuzz_round_trip: ['segmentation.cc', 'coalescing.cc', 'checksum.h', 'ip.h'],
  fuzz_guest: ['packet_view.cc', 'datagram.h', 'echo.cc', 'scattered.h'],
  fuzz_guest_frames: ['gateway.cc', 'dhcp.cc', 'frame_reader.h', 'frame_writer.h'],
  fuzz_stack: [
    'segment.cc',
    'receive_side.cc',
    'send_side.cc',
    'send_side_output.cc',
    'scoreboard.cc',
    'rack.cc',
    'cubic.cc',
    'ring.cc',
    'connection.cc',
    'connection_input.cc',
    'connection_output.cc',
    'stack.cc',
    'too_big.cc',
  ],
  fuzz_icmp: ['icmp_error.cc'],
  fuzz_fragmentation: ['fragmentation.cc'],
  fuzz_wireguard_relay: [
    'wireguard_table.cc',
    'wireguard_handshakes.cc',
    'wireguard_handover.cc',
    'wireguard_routes.cc',
  ],
  addresses: ['wire/socket-address.ts', 'wire/prefix.ts', 'wire/prefix-batch.ts', 'host/wireguard-key.ts'],
  admission: ['core/protocol/admission-payload.ts'],
  configuration: [
    'daemon/config/config.ts',
    'daemon/config/config-schema.ts',
    'daemon/config/config-rules.ts',
    'daemon/config/consent-configuration.ts',
    'daemon/config/exit-configuration.ts',
    'daemon/config/paths-configuration.ts',
    'daemon/config/port-forward.ts',
    'daemon/config/private-ports-configuration.ts',
    'daemon/config/relay-configuration.ts',
    'daemon/config/route-configuration.ts',
    'daemon/config/shaping-configuration.ts',
  ],
  'control-message': [
    'core/protocol/cbor.ts',
    'core/protocol/control-frame.ts',
    'core/protocol/control-message.ts',
  ],
  'control-socket': [
    'daemon/control/control-protocol.ts',
    'daemon/control/control-request.ts',
    'host/line-reader.ts',
  ],
  'dns-forwarder': ['exit/dns-forwarder.ts'],
  'event-ring': ['engine/native/event-ring.ts'],
  exit: [
    'core/exit/exit-agent.ts',
    'core/exit/exit-client.ts',
    'core/exit/exit-rights.ts',
    'core/exit/exit-server.ts',
    'core/exit/guest-table.ts',
    'core/exit/lessor.ts',
    'core/exit/route-client.ts',
    'core/exit/route-server.ts',
  ],
  'exit-journal': ['exit/host-changes.ts', 'exit/host-change.ts', 'exit/host-listing.ts'],
  gateway: ['exit/gateway-flows.ts', 'exit/permitted.ts'],
  'peer-batch': ['engine/native/peer-batch.ts'],
  datagrams: ['wire/frame.ts', 'wire/path-frame.ts', 'engine/wasm/stun.ts', 'engine/wasm/messages.ts'],
  links: [
    'core/protocol/bootstrap-codec.ts',
    'core/protocol/invite.ts',
    'core/protocol/relay-link.ts',
    'core/protocol/peer-id.ts',
  ],
  'port-mapping': [
    'core/mapping/pcp.ts',
    'core/mapping/nat-pmp.ts',
    'core/mapping/ssdp.ts',
    'core/mapping/igd.ts',
  ],
  'relay-store': ['core/relay/relay-store.ts'],
  'state-files': ['daemon/state/journal.ts'],
  'signed-maps': [
    'core/protocol/signed-map.ts',
    'core/protocol/peer-record.ts',
    'core/protocol/standing-policy.ts',
    'core/protocol/usage-receipt.ts',
  ],
  socks: ['exit/socks-protocol.ts', 'exit/name-message.ts'],
  'status-http': ['status/server/status-server.ts'],
  'wasm-session': [
    'engine/wasm/session-table.ts',
    'engine/wasm/session-peer.ts',
    'engine/wasm/peer-reach.ts',
    'engine/wasm/noise.ts',
    'engine/wasm/cookie.ts',
    'engine/wasm/keypair.ts',
    'engine/wasm/peer-paths.ts',
    'engine/wasm/path-set.ts',
    'engine/wasm/roaming-endpoint.ts',
  ],
  'wg-config': ['wg/uapi.ts'],
};

/** Files of instructions that not every CPU has, by the name that Linux gives those. */
const NEEDS_CPU = { 'tag_lanes.cc': 'avx512f' };

export const linesFile = (target) => join(root, 'build/fuzz/lines', `${target}.json`);

/**
 * Lines of C++ by file: `{ code, ran }`. Each target's own replay tells what it ran; a line of a header counts
 * once, and ran when it did in any file of any target that includes it.
 */
function nativeLines(targets) {
  const files = new Map();
  for (const { name, executable } of targets) {
    const profile = join(root, 'build/fuzz/profiles', `${name}.profraw`);
    if (!existsSync(profile)) continue;
    const indexed = profile.replace(/raw$/, 'data');
    if (output('llvm-profdata', ['merge', '-sparse', '-o', indexed, profile]) === undefined)
      throw new Error('llvm-profdata failed; is the package llvm installed?');
    const exported = output('llvm-cov', ['export', '-format=lcov', `-instr-profile=${indexed}`, executable]);
    if (exported === undefined) throw new Error('llvm-cov failed; is the package llvm installed?');
    addLcov(files, exported);
  }
  return files;
}

/** Of lcov's records: SF:FILE begins a file, DA:LINE,COUNT is a line with code. */
function addLcov(files, records) {
  let file;
  for (const record of records.split('\n')) {
    const [key, value = ''] = record.split(/:(.*)/s);
    if (key === 'SF') {
      const path = relative(root, resolve(value));
      file = files.get(path) ?? { code: new Set(), ran: new Set() };
      files.set(path, file);
    } else if (key === 'DA') {
      const [line, count] = value.split(',').map(Number);
      file.code.add(line);
      if (count > 0) file.ran.add(line);
    }
  }
}

function scriptLines(targets) {
  const files = new Map();
  for (const { name } of targets) {
    if (!existsSync(linesFile(name))) continue;
    for (const [path, { code, ran }] of Object.entries(JSON.parse(readFileSync(linesFile(name), 'utf8')))) {
      const known = files.get(path) ?? { code: new Set(code), ran: new Set() };
      for (const line of ran) known.ran.add(line);
      files.set(path, known);
    }
  }
  return files;
}

/** Of each parser: target, path, lines with code, lines reached, and why it is not counted if it is not. */
function coverageRows(targets) {
  const native = nativeLines(targets.filter(({ script }) => script === undefined));
  const script = scriptLines(targets.filter(({ script }) => script !== undefined));
  return targets.flatMap((target) =>
    (PARSERS[target.name] ?? []).map((file) => {
      const [path, found] = target.script === undefined ? nativeFile(file, native) : scriptFile(file, script);
      const code = found?.code ?? [];
      const missing = code.filter((line) => !found.ran.has(line));
      const flag = NEEDS_CPU[file];
      const excluded = flag !== undefined && !cpuHas(flag) ? `this CPU has no ${flag}` : undefined;
      const ran = code.length - missing.length;
      const percent = code.length === 0 ? 0 : (100 * ran) / code.length;
      const below = excluded === undefined && percent < LEAST_PERCENT;
      return { target: target.name, path, lines: code.length, ran, percent, missing, excluded, below };
    }),
  );
}

/** Prints the table; whether every file is reached as far as it has to be. `document`: writes it there, too. */
export function reportCoverage(targets, { document } = {}) {
  const rows = coverageRows(targets);
  for (const { target, path, lines, ran, percent, missing, excluded, below } of rows) {
    const reached =
      excluded === undefined
        ? `${String(ran).padStart(4)} of ${String(lines).padStart(4)} lines ${percent.toFixed(1).padStart(5)} %`
        : `not counted: ${excluded}`;
    const left = excluded === undefined && missing.length > 0 ? `   not reached: ${missing.join(' ')}` : '';
    console.log(`${target.padEnd(24)} ${path.padEnd(48)} ${reached}${below ? ' !' : ''}${left}`);
  }
  if (document !== undefined) writeRows(document, rows);
  const enough = rows.every(({ below }) => !below);
  if (!enough) console.error(`Files marked ! are below ${LEAST_PERCENT} % of their lines.`);
  return enough;
}

function writeRows(file, rows) {
  const lines = rows.map(({ target, path, lines, ran, percent, excluded }) =>
    excluded === undefined
      ? `| \`${target}\` | \`${path}\` | ${ran} | ${lines} | ${percent.toFixed(1)} |`
      : `| \`${target}\` | \`${path}\` | | | not counted: ${excluded} |`,
  );
  const table = ['| target | file | lines reached | of | % |', '|---|---|---:|---:|---:|', ...lines].join(
    '\n',
  );
  const path = join(root, file);
  const after = withTable(readFileSync(path, 'utf8'), 'lines reached', table, 'npm run fuzz -- --document');
  if (after === undefined) throw new Error(`${file} has no marks for the table "lines reached"`);
  writeFileSync(path, after);
}

function cpuHas(flag) {
  const flags = /^(?:flags|Features)\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? '';
  return flags.trim().split(/\s+/).includes(flag);
}

function nativeFile(file, lines) {
  const path = filesUnder(['native'], (each) => basename(each) === file).map((each) =>
    relative(root, each),
  )[0];
  const known = path === undefined ? undefined : lines.get(path);
  if (known === undefined) return [path ?? file, undefined];
  const compiled = compiledLines(readFileSync(join(root, path), 'utf8'));
  return [
    path,
    { code: [...known.code].filter((line) => compiled.has(line)).sort((a, b) => a - b), ran: known.ran },
  ];
}

/**
 * The lines of a C++ file that hold code for this machine. Of a function that a file includes and does not
 * call, clang counts every line: those with nothing but a comment, a directive, or what is for BPF, too.
 */
function compiledLines(text) {
  const lines = new Set();
  let comment = false;
  const branches = [];
  text.split('\n').forEach((each, index) => {
    const line = each.trim();
    if (/^#\s*if/.test(line)) branches.push(/^#\s*ifdef __bpf__/.test(line) ? 'bpf' : 'other');
    if (/^#\s*else/.test(line)) branches.push(branches.pop() === 'bpf' ? 'host' : 'other');
    if (/^#\s*endif/.test(line)) branches.pop();
    if (line.startsWith('/*')) comment = true;
    const blank = line === '' || line.startsWith('//') || line.startsWith('#');
    if (!comment && !blank && !branches.includes('bpf')) lines.add(index + 1);
    if (line.endsWith('*/')) comment = false;
  });
  return lines;
}

function scriptFile(file, lines) {
  const path = `ts/${file}`;
  const known = lines.get(`dist/${path.replace(/\.ts$/, '.js')}`);
  return [path, known === undefined ? undefined : { code: [...known.code], ran: known.ran }];
}

/** Makes room for what a replay writes. */
export function prepareLines() {
  mkdirSync(dirname(linesFile('x')), { recursive: true });
}
