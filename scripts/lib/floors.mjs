// The floors of the house: which folder may import from which. A folder imports from those that stand
// before it in its list, never from one behind it, so that there is no cycle between folders. Within a
// folder, files do not import each other in a circle, unless a type is all that closes it.

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { root } from './paths.mjs';
import { filesUnder } from './stamp.mjs';

/** Lowest first. A file belongs to the longest folder it is under; `ts/cli/**` counts as `ts/cli`. */
export const FLOORS = {
  ts: [
    'ts/wire',
    'ts/contract',
    'ts/core/protocol',
    'ts/core/runtime',
    'ts/core/mapping',
    'ts/core/members',
    'ts/core/uplink',
    'ts/core/path',
    'ts/core/nat',
    'ts/core/exit',
    'ts/core/receipts',
    'ts/core/relay',
    'ts/core/relay/circuits',
    'ts/core/relay/service',
    'ts/core/node',
    'ts/host',
    'ts/engine/native',
    'ts/engine/xdp',
    'ts/engine/wasm',
    'ts/engine',
    'ts/status/model',
    'ts/status/page',
    'ts/status/metrics',
    'ts/status/server',
    'ts/daemon/config',
    'ts/daemon/state',
    'ts/exit',
    'ts/daemon/control',
    'ts/provider/image',
    'ts/provider/machine',
    'ts/provider/member',
    'ts/daemon/doctor',
    'ts/daemon/lifecycle',
    'ts/wg',
    'ts/cli',
    'ts/sim/kernel',
    'ts/sim/mesh',
    'ts/lab',
    'ts/study',
  ],
  native: [
    'native/wire',
    'native/common',
    'native/ratelimit',
    'native/crypto',
    'native/session',
    'native/relay',
    'native/udp',
    'native/inner',
    'native/stack',
    'native/tun',
    'native/exit',
    'native/agent',
    'native/guest',
    'native/engine',
    'native/xdp',
    'native/addon',
  ],
};

/** The folder of `floors` a file belongs to. */
function folderOf(file, floors) {
  return floors.filter((folder) => file.startsWith(`${folder}/`)).sort((a, b) => b.length - a.length)[0];
}

/** `[imported file, whether more than types]` for each relative import of a TypeScript file. */
function typeScriptImports(file, text) {
  const found = [];
  const pattern =
    /(?:^|\n)\s*(?:import|export)\s+(type\s+)?([^;'"]*?)\s*from\s+'(\.[^']+)\.js'|import\(\s*'(\.[^']+)\.js'\s*\)/g;
  for (const [, type, names = '', from, dynamic] of text.matchAll(pattern)) {
    const target = normalize(join(dirname(file), `${from ?? dynamic}.ts`));
    const listed = /\{([^}]*)\}/.exec(names)?.[1];
    const onlyTypes =
      type !== undefined ||
      (listed !== undefined &&
        listed
          .split(',')
          .filter((name) => name.trim() !== '')
          .every((name) => name.trim().startsWith('type ')));
    found.push([target, !onlyTypes]);
  }
  return found;
}

/** The same for a C++ file: includes of `folder/file.h`, and of the public header of the wire layout. */
function nativeImports(_file, text) {
  return [...text.matchAll(/^\s*#\s*include\s+["<]([^">]+)[">]/gm)].flatMap(([, path]) => {
    const target = path.startsWith('omerta/') ? `native/wire/include/${path}` : `native/${path}`;
    return existsSync(join(root, target)) ? [[target, true]] : [];
  });
}

/** The unit that must not be part of a cycle: a header and the file that implements it are one. */
const unitOf = (file) => file.replace(/\.(h|cc)$/, '');

function cycles(graph) {
  const found = [];
  const state = new Map();
  const visit = (node, path) => {
    state.set(node, 'open');
    for (const next of graph.get(node) ?? []) {
      if (next === node) continue;
      if (state.get(next) === 'open') found.push([...path.slice(path.indexOf(next)), next]);
      else if (!state.has(next)) visit(next, [...path, next]);
    }
    state.set(node, 'done');
  };
  for (const node of graph.keys()) if (!state.has(node)) visit(node, [node]);
  return found;
}

function check(files, floors, importsOf) {
  const complaints = [];
  const graph = new Map();
  for (const file of files) {
    const folder = folderOf(file, floors);
    if (folder === undefined) {
      complaints.push(`${file}: its folder has no floor; give it one in scripts/lib/floors.mjs`);
      continue;
    }
    for (const [target, withValues] of importsOf(file, readFileSync(join(root, file), 'utf8'))) {
      const other = folderOf(target, floors);
      if (other === undefined) {
        complaints.push(
          `${file}: imports ${target}, which no floor holds: a test, a benchmark, another tree`,
        );
        continue;
      }
      if (floors.indexOf(other) > floors.indexOf(folder))
        complaints.push(`${file}: imports ${target}, but ${other} stands above ${folder}`);
      if (withValues) graph.set(unitOf(file), [...(graph.get(unitOf(file)) ?? []), unitOf(target)]);
    }
  }
  for (const cycle of cycles(graph)) complaints.push(`a circle of imports: ${cycle.join(' → ')}`);
  return complaints;
}

/** What stands against the floors in this tree, one line each. */
export function floorComplaints() {
  const typeScript = filesUnder(['ts'], (file) => file.endsWith('.ts'));
  const native = filesUnder(['native'], (file) => /\.(h|cc)$/.test(file)).filter(
    (file) => !/native\/(test|fuzz|toolchains)\//.test(file),
  );
  const here = (file) => (file.startsWith('/') ? relative(root, file) : file);
  return [
    ...check(typeScript.map(here), FLOORS.ts, typeScriptImports),
    ...check(native.map(here), FLOORS.native, nativeImports),
  ];
}
