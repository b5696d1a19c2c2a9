// What became of the port mapping, in words for a person.

import type { MappingFailure, MappingProtocol } from '../../core/mapping/mapping-client.js';
import type { PortMappingStatus } from '../../core/mapping/port-mapper.js';
import type { MappedStatus } from '../../core/runtime/mesh-status.js';
import { formatDuration } from '../../host/units.js';
import type { Wording } from './wording.js';

const PROTOCOL_NAMES: Readonly<Record<MappingProtocol, string>> = {
  pcp: 'PCP',
  'nat-pmp': 'NAT-PMP',
  upnp: 'UPnP',
};

const FAILURE_WORDS: Readonly<Record<MappingFailure, string>> = {
  unanswered: 'no answer',
  'not-offered': 'not offered',
  'unsupported-version': 'another version',
  'not-authorized': 'not allowed there',
  'no-resources': 'no port left',
  'network-failure': 'the gateway has no address itself',
  'address-mismatch': 'a second NAT is on the way to the gateway',
  refused: 'refused',
  'bad-address': 'what it gave is no address others can send to',
  'no-service': 'no service that maps ports',
  malformed: 'an answer that cannot be read',
};

/** Undefined where there is nothing to tell: nobody was asked, or no gateway of IPv6 is there. */
export function wordPinhole({
  state,
  protocol,
  gateway = '',
  internal = '',
  expiresInSeconds = 0,
  attempts,
}: PortMappingStatus): Wording | undefined {
  switch (state) {
    case 'off':
    case 'no-gateway':
      return undefined;
    case 'asking':
      return { what: `asking the gateway ${gateway} to let ${internal} in`, next: '' };
    case 'none':
      return {
        what: `none by the gateway ${gateway} (${triedInVain(attempts)})`,
        next: `If a firewall is there, switch on PCP at the router, or let ${internal} (UDP) in there`,
      };
    case 'mapped': {
      const by = protocol === undefined ? '' : ` by ${PROTOCOL_NAMES[protocol]}`;
      return {
        what: `${internal} is let in${by}, for another ${formatDuration(expiresInSeconds)}`,
        next: '',
      };
    }
  }
}

const triedInVain = (attempts: PortMappingStatus['attempts']): string =>
  attempts.map((each) => `${PROTOCOL_NAMES[each.protocol]}: ${FAILURE_WORDS[each.failure]}`).join('; ');

const FORWARD =
  'Switch on PCP, NAT-PMP or UPnP at the router, or forward the port there and give its address with --announce';

/** @param mapped what it is worth; `next` is empty where nothing has to be done. */
export function wordPortMapping(status: PortMappingStatus, mapped: MappedStatus | undefined): Wording {
  const { state, protocol, gateway = '', external = '', expiresInSeconds = 0, attempts } = status;
  switch (state) {
    case 'off':
      return { what: 'off', next: '' };
    case 'no-gateway':
      return { what: 'not needed: no gateway that translates addresses', next: '' };
    case 'asking':
      return { what: `asking the gateway ${gateway}`, next: '' };
    case 'none':
      return { what: `none by the gateway ${gateway} (${triedInVain(attempts)})`, next: FORWARD };
    case 'mapped': {
      const by = protocol === undefined ? '' : ` by ${PROTOCOL_NAMES[protocol]}`;
      const what = `${external} leads here${by}, for another ${formatDuration(expiresInSeconds)}`;
      if (mapped?.reach === 'private')
        return {
          what: `${what}; that address is private: a second NAT is behind the gateway ${gateway}`,
          next: 'Forward the port at the second router as well, or ask the provider for a public address',
        };
      if (mapped?.reach === 'unconfirmed')
        return {
          what: `${what}; relays see this node at another address, so nobody is told`,
          next: `Look whether ${gateway} is your router, and what address it has outside`,
        };
      return { what, next: '' };
    }
  }
}
