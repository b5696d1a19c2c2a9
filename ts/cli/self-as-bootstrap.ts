// This machine as others are told of it: for networks it makes, invites and relay links.

import type { Bootstrap } from '../core/protocol/network.js';
import { ControlClient } from '../daemon/control/control-client.js';
import { loadOrCreateIdentity } from '../daemon/state/identity.js';
import { ExitCode, OperatorError } from '../host/operator-error.js';
import { parseSocketAddress } from '../wire/socket-address.js';
import { requestStatus, type Context } from './context.js';

/**
 * This relay with the running daemon's addresses, else the configured ones.
 * @throws OperatorError on a machine that runs as a member.
 */
export async function selfAsBootstrap(context: Context): Promise<Bootstrap> {
  const { configuredAddresses, ownBootstrap } = await import('../daemon/lifecycle/mesh.js');
  const { identity } = loadOrCreateIdentity(context.state);
  const client = await ControlClient.connectIfRunning(context.state.socket);
  if (client === undefined) {
    const { Configuration } = await import('./configuration.js');
    const config = new Configuration(context).read();
    return ownBootstrap(identity, configuredAddresses(config, config.node.port));
  }
  try {
    const { mode, addresses } = await requestStatus(client);
    if (mode !== 'relay')
      throw new OperatorError(
        ExitCode.usage,
        'network',
        'this needs a relay, and this machine runs as a member',
        'Type it on the relay; a member makes a network with: omerta network create NAME --via NETWORK',
      );
    return ownBootstrap(
      identity,
      addresses.map(parseSocketAddress).filter((address) => address !== undefined),
    );
  } finally {
    client.close();
  }
}
