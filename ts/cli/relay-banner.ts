// What omerta relay prints once it serves.

import { encodeInvite } from '../core/protocol/invite.js';
import type { Daemon } from '../daemon/lifecycle/daemon.js';
import { loadNetworks } from '../daemon/state/network-files.js';
import type { DaemonStatus } from '../status/model/daemon-status.js';
import { columns, toJson } from './context.js';
import { describeAccelerators } from './describe-status.js';

/** A kernel path that was asked for and is not there. */
function whyNotXdp({ engine }: DaemonStatus): string[][] {
  const xdp = engine.accelerators.find(({ name }) => name === 'xdp');
  return xdp === undefined || xdp.state === 'on' ? [] : [['  why not XDP', xdp.reason]];
}

/** What is printed once the relay serves. The invite is a secret: it goes to standard output only. */
export function relayBanner(daemon: Daemon, json: boolean): string {
  const status = daemon.status();
  const networks = loadNetworks(daemon.settings.state).map((network) => ({
    name: network.name,
    invite: encodeInvite(network),
  }));
  if (json) return toJson({ ...status, created: daemon.created, networks });
  const [first] = networks;
  return [
    `Omerta ${status.version} relay "${status.mesh.name}"${daemon.created ? ', newly set up' : ''}`,
    '',
    columns([
      ['  peer id', status.mesh.peerId],
      ['  listening', `UDP port ${status.port}`],
      ...status.addresses.map((address, index) => [index === 0 ? '  reached at' : '', address]),
      ['  engine', `${status.engine.summary}, ${status.engine.aead}`],
      ['  accelerators', describeAccelerators(status)],
      ...(status.engineFallback === undefined ? [] : [['  why not native', status.engineFallback]]),
      ...whyNotXdp(status),
      ['  status page', status.statusPage ?? 'off'],
      ['  state', status.stateDirectory],
    ]),
    ...networks.flatMap(({ name, invite }) => [
      '',
      `  network "${name}": whoever has this link is a member, so send it privately`,
      `    ${invite}`,
    ]),
    '',
    first === undefined
      ? '  Make a network with: omerta network create home'
      : '  On another machine: omerta network join LINK, then omerta up',
    '  Stop with Ctrl-C.',
  ].join('\n');
}
