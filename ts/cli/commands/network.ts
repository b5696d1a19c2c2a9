// omerta network: the networks this machine is a member of. The files in the state directory are
// what counts; a running daemon is told to read them again.

import type { Command } from 'commander';
import { encodeInvite } from '../../core/protocol/invite.js';
import {
  blindedNetworkId,
  overlayAddresses,
  type Network,
  type OverlayAddresses,
} from '../../core/protocol/network.js';
import { encodePeerId } from '../../core/protocol/peer-id.js';
import { sameBytes, toHex } from '../../wire/bytes.js';
import { ControlClient } from '../../daemon/control/control-client.js';
import { loadIdentity } from '../../daemon/state/identity.js';
import {
  addNetwork,
  loadNetworks,
  newNetwork,
  parseInvite,
  removeNetworkFile,
  renameNetwork,
  requireNetworkName,
  selectNetwork,
} from '../../daemon/state/network-files.js';
import { nodePrimitives } from '../../engine/node-primitives.js';
import { formatSocketAddress } from '../../wire/socket-address.js';
import { Context, columns, print, printJson, requestStatus } from '../context.js';
import { explain } from '../help.js';
import { selfAsBootstrap } from '../self-as-bootstrap.js';

/** Lets a running daemon take over what was changed. @returns whether one runs. */
async function reload(context: Context): Promise<boolean> {
  const client = await ControlClient.connectIfRunning(context.state.socket);
  if (client === undefined) return false;
  try {
    await client.request({ command: 'reload-networks' });
    return true;
  } finally {
    client.close();
  }
}

/** The network with this relay as its first bootstrap; the invite has room for eight. */
async function withThisRelay(context: Context, network: Network): Promise<Network> {
  const own = await selfAsBootstrap(context);
  const others = network.bootstraps.filter(({ identity }) => !sameBytes(identity, own.identity));
  return { ...network, bootstraps: [own, ...others].slice(0, 8) };
}

async function create(context: Context, name: string, via: string | undefined, json: boolean): Promise<void> {
  requireNetworkName(name);
  const bootstraps =
    via === undefined
      ? [await selfAsBootstrap(context)]
      : selectNetwork(loadNetworks(context.state), via).bootstraps;
  const network = newNetwork(name, bootstraps);
  addNetwork(context.state, network);
  const running = await reload(context);
  const invite = encodeInvite(network);
  if (json) {
    printJson({ name, blindedId: blindedHex(network), invite, running });
    return;
  }
  print(`created "${name}". Whoever has this link is a member, so send it privately:\n${invite}`);
  if (!running) print(via === undefined ? 'Start its relay with: omerta relay' : 'Connect with: omerta up');
}

async function join(context: Context, link: string, name: string | undefined, json: boolean): Promise<void> {
  if (name !== undefined) requireNetworkName(name, 'omerta network join --name home LINK');
  const invited = parseInvite(link);
  const network = { ...invited, name: name ?? invited.name };
  addNetwork(context.state, network, (free) => `omerta network join --name ${free} LINK`);
  const running = await reload(context);
  if (json) printJson({ name: network.name, blindedId: blindedHex(network), running });
  else print(`joined "${network.name}".${running ? '' : ' Connect with: omerta up'}`);
}

async function rename(context: Context, from: string, to: string, json: boolean): Promise<void> {
  requireNetworkName(to, `omerta network rename ${from} lab`);
  const network = selectNetwork(loadNetworks(context.state), from);
  const { Configuration } = await import('../configuration.js');
  const { networks: consented } = new Configuration(context).read().consent;
  if (network.name !== to) renameNetwork(context.state, network, to);
  const running = await reload(context);
  if (json) printJson({ name: to, blindedId: blindedHex(network), running });
  else print(`"${from}" is called "${to}" on this machine now`);
  if (!json && consented !== 'own' && consented.includes(from))
    print(`${context.configPath} still names "${from}" under [consent]: correct it before the next start`);
}

async function leave(context: Context, name: string | undefined, json: boolean): Promise<void> {
  const network = selectNetwork(loadNetworks(context.state), name);
  removeNetworkFile(context.state, network);
  const running = await reload(context);
  if (json) printJson({ name: network.name, running });
  else print(`left "${network.name}"`);
}

/** Own addresses by network (blinded id, hex), as a running daemon has them: it may have moved to others. */
async function runningAddresses(context: Context): Promise<ReadonlyMap<string, OverlayAddresses>> {
  const client = await ControlClient.connectIfRunning(context.state.socket);
  if (client === undefined) return new Map();
  try {
    const { mesh } = await requestStatus(client);
    return new Map(mesh.networks.map(({ blindedId, ipv4, ipv6 }) => [blindedId, { ipv4, ipv6 }]));
  } finally {
    client.close();
  }
}

async function list(context: Context, json: boolean): Promise<void> {
  const running = await runningAddresses(context);
  const networks = loadNetworks(context.state);
  const identity = loadIdentity(context.state);
  const rows = networks.map((network) => ({
    name: network.name,
    blindedId: blindedHex(network),
    addresses:
      running.get(blindedHex(network)) ??
      (identity && overlayAddresses(nodePrimitives, network.id, identity.publicKey)),
    bootstraps: network.bootstraps.map((bootstrap) => ({
      peerId: encodePeerId(bootstrap.identity),
      addresses: bootstrap.addresses.map(formatSocketAddress),
    })),
  }));
  if (json) {
    printJson(rows);
    return;
  }
  if (rows.length === 0) {
    print('no network joined. Type: omerta network join LINK');
    return;
  }
  print(
    columns([
      ['NETWORK', 'BLINDED ID', 'OWN ADDRESSES', 'BOOTSTRAPS'],
      ...rows.map(({ name, blindedId, addresses, bootstraps }) => [
        name,
        blindedId,
        addresses === undefined ? '-' : `${addresses.ipv4} ${addresses.ipv6}`,
        bootstraps
          .map(({ peerId, addresses: [first] }) => `${peerId.slice(0, 18)}… ${first ?? ''}`)
          .join(', '),
      ]),
    ]),
  );
}

function blindedHex(network: Network): string {
  return toHex(blindedNetworkId(nodePrimitives, network));
}

/** Reads a link from standard input, where no process list shows it. */
async function readLink(words: readonly string[]): Promise<string> {
  const link = words.join(''); // a line break in it made several arguments
  if (link !== '-') return link;
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

interface Json {
  readonly json?: boolean;
}

export function networkCommand(program: Command): void {
  const network = program
    .command('network')
    .summary('create, join, list, rename, leave networks')
    .description(
      'The networks this machine is a member of. Members reach each other; relays only know a blinded id.',
    );
  explain(network, ['omerta network join omerta://join/join1…', 'omerta network list'], { 2: true });

  explain(
    network
      .command('create')
      .summary('make a network')
      .description(
        'Makes a network and prints its invite link. Run it on the relay, which becomes its bootstrap; or use ' +
          '--via to take the relays of a network this machine has joined (they must serve it: see [relay] serve).',
      )
      .argument('<name>', 'a-z, 0-9 and "-"')
      .option('--via <network>', 'use the relays of this network')
      .option('--json', 'print as JSON')
      .action((name: string, { via, json }: Json & { via?: string }, self: Command) =>
        create(Context.of(self), name, via, json === true),
      ),
    ['omerta network create home', 'omerta network create lab --via home'],
    { 1: true, 2: true, 4: true },
  );
  explain(
    network
      .command('join')
      .summary('join by an invite link')
      .description(
        'Joins a network by its invite link. The link is a secret; with "-" it is read from standard input, ' +
          'so that it does not appear in the process list or the shell history.',
      )
      .argument('<link...>', 'omerta://join/…, or "-" for standard input')
      .option('--name <name>', 'what it is called on this machine (default: the name in the link)')
      .option('--json', 'print as JSON')
      .action(async (link: readonly string[], { name, json }: Json & { name?: string }, self: Command) =>
        join(Context.of(self), await readLink(link), name, json === true),
      ),
    [
      'omerta network join -   # then paste the link and press Ctrl-D',
      'omerta network join omerta://join/join1…',
      'omerta network join --name lab omerta://join/join1…',
    ],
    { 1: true, 2: 'the link is damaged, or the network or its name is joined already', 4: true },
  );
  explain(
    network
      .command('invite')
      .summary('print the invite link')
      .description('Prints the invite link of a network. Whoever has it is a member: send it privately.')
      .argument('[name]', 'which network; may be left out when there is only one')
      .option('--here', 'name this relay as the first one to be used, before those the network has')
      .option('--json', 'print as JSON')
      .action(async (name: string | undefined, { here, json }: Json & { here?: true }, self: Command) => {
        const context = Context.of(self);
        const stored = selectNetwork(loadNetworks(context.state), name);
        const chosen = here === true ? await withThisRelay(context, stored) : stored;
        const invite = encodeInvite(chosen);
        if (json === true) printJson({ name: chosen.name, invite });
        else print(invite);
      }),
    ['omerta network invite', 'omerta network invite home', 'omerta network invite home --here'],
    { 2: true, 4: true },
  );
  explain(
    network
      .command('list')
      .summary('list joined networks')
      .description(
        'Lists the joined networks: name, blinded id (what relays see), own addresses, bootstraps.',
      )
      .option('--json', 'print as JSON')
      .action(({ json }: Json, self: Command) => list(Context.of(self), json === true)),
    ['omerta network list', 'omerta network list --json'],
    { 2: true, 4: true },
  );
  explain(
    network
      .command('rename')
      .summary('call a network otherwise on this machine')
      .description(
        'Changes what a network is called on this machine. Other members keep their own name for it; an ' +
          'invite printed here proposes the new one.',
      )
      .argument('<name>', 'what it is called now')
      .argument('<new-name>', 'a-z, 0-9 and "-"')
      .option('--json', 'print as JSON')
      .action((from: string, to: string, { json }: Json, self: Command) =>
        rename(Context.of(self), from, to, json === true),
      ),
    ['omerta network rename home cabin'],
    { 1: true, 2: true, 4: true },
  );
  explain(
    network
      .command('leave')
      .summary('forget a network')
      .description('Forgets a network and its key. Joining again needs the invite link.')
      .argument('[name]', 'which network; may be left out when there is only one')
      .option('--json', 'print as JSON')
      .action((name: string | undefined, { json }: Json, self: Command) =>
        leave(Context.of(self), name, json === true),
      ),
    ['omerta network leave lab'],
    { 1: true, 2: true, 4: true },
  );
}
