// How many lines the inputs in git reach of the files that read bytes of others, by their replay.

import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { output } from './command.mjs';
import { root } from './paths.mjs';
import { filesUnder } from './stamp.mjs';

/** What `npm run fuzz -- --coverage` asks of every file below. */
const LEAST_PERCENT = 95;

/**
 * The files, by the target that reads the most of them. C++ files by name, wherever in native/ they lie.
 * TypeScript: below ts/. The wire's headers (omerta/wire.h) are left out: clang counts a function of theirs
 * anew in each file that includes it.
 */
export const PARSERS = {
  fuzz_tables: ['forwarding_table.cc', 'accounts.cc'],
  fuzz_session_machine: ['cookie.cc', 'suite_offer.cc'],
  fuzz_round_trip: ['segmentation.cc', 'coalescing.cc', 'checksum.h', 'ip.h'],
  fuzz_icmp: ['icmp_unreachable.cc'],
  fuzz_wireguard_relay: ['wireguard_table.cc', 'wireguard_routes.cc'],
  addresses: ['wire/socket-address.ts', 'wire/prefix.ts', 'wire/prefix-batch.ts', 'host/wireguard-key.ts'],
  admission: ['core/protocol/admission-payload.ts'],
  configuration: ['daemon/config/config.ts'],
  'control-message': [
    'core/protocol/cbor.ts',
    'core/protocol/control-frame.ts',
    'core/protocol/control-message.ts',
  ],
  'control-socket': ['daemon/control/control-protocol.ts', 'host/line-reader.ts'],
  datagrams: ['wire/frame.ts', 'engine/wasm/stun.ts', 'engine/wasm/messages.ts'],
  links: [
    'core/protocol/bootstrap-codec.ts',
    'core/protocol/invite.ts',
    'core/protocol/relay-link.ts',
    'core/protocol/peer-id.ts',
  ],
  'relay-store': ['core/relay/relay-store.ts'],
  'signed-maps': [
    'core/protocol/signed-map.ts',
    'core/protocol/peer-record.ts',
    'core/protocol/standing-policy.ts',
    'core/protocol/usage-receipt.ts',
  ],
  'status-http': ['status/server/status-server.ts'],
  'wg-config': ['wg/uapi.ts'],
};

export const linesFile = (target) => join(root, 'build/fuzz/lines', `${target}.json`);

function nativeLines(targets) {
  const profiles = targets
    .map(({ name }) => join(root, 'build/fuzz/profiles', `${name}.profraw`))
    .filter((file) => existsSync(file));
  if (profiles.length === 0) return new Map();
  const merged = join(root, 'build/fuzz/profiles/all.profdata');
  if (output('llvm-profdata', ['merge', '-sparse', '-o', merged, ...profiles]) === undefined)
    throw new Error('llvm-profdata failed; is the package llvm installed?');
  const [first, ...others] = targets.map(({ executable }) => executable);
  const objects = [first, ...others.flatMap((executable) => ['-object', executable])];
  const exported = output('llvm-cov', ['export', '-summary-only', `-instr-profile=${merged}`, ...objects]);
  if (exported === undefined) throw new Error('llvm-cov failed; is the package llvm installed?');
  return new Map(
    JSON.parse(exported).data[0].files.map(({ filename, summary }) => [
      relative(root, filename),
      { lines: summary.lines.count, ran: summary.lines.covered },
    ]),
  );
}

function scriptLines(targets) {
  const files = new Map();
  for (const { name } of targets) {
    if (!existsSync(linesFile(name))) continue;
    for (const [path, { code, ran }] of Object.entries(JSON.parse(readFileSync(linesFile(name), 'utf8')))) {
      const known = files.get(path) ?? { code, ran: new Set() };
      for (const line of ran) known.ran.add(line);
      files.set(path, known);
    }
  }
  return files;
}

/** Prints the table; whether every file is reached as far as it has to be. */
export function reportCoverage(targets) {
  const native = nativeLines(targets.filter(({ script }) => script === undefined));
  const script = scriptLines(targets.filter(({ script }) => script !== undefined));
  const rows = [];
  let enough = true;
  for (const target of targets) {
    for (const file of PARSERS[target.name] ?? []) {
      const [path, found] = target.script === undefined ? nativeFile(file, native) : scriptFile(file, script);
      const percent = found === undefined ? 0 : (100 * found.ran) / found.lines;
      const below = percent < LEAST_PERCENT;
      if (below) enough = false;
      const missing = found?.missing?.length > 0 ? `   not reached: ${found.missing.join(' ')}` : '';
      rows.push(
        `${target.name.padEnd(24)} ${path.padEnd(48)} ${String(found?.ran ?? 0).padStart(4)} of ${String(found?.lines ?? 0).padStart(4)} lines ${percent.toFixed(1).padStart(5)} %${below ? ' !' : ''}${missing}`,
      );
    }
  }
  console.log(rows.join('\n'));
  if (!enough) console.error(`Files marked ! are below ${LEAST_PERCENT} % of their lines.`);
  return enough;
}

function nativeFile(file, lines) {
  const path = filesUnder(['native'], (each) => basename(each) === file).map((each) =>
    relative(root, each),
  )[0];
  return [path ?? file, lines.get(path)];
}

function scriptFile(file, lines) {
  const path = `ts/${file}`;
  const known = lines.get(`dist/${path.replace(/\.ts$/, '.js')}`);
  if (known === undefined) return [path, undefined];
  const missing = known.code.filter((line) => !known.ran.has(line));
  return [path, { lines: known.code.length, ran: known.ran.size, missing }];
}

/** Makes room for what a replay writes. */
export function prepareLines() {
  mkdirSync(dirname(linesFile('x')), { recursive: true });
}
