// Every counter of this engine, zero ones included. The names are those of the native engine
// (native/common/counters.h); the few it does not have are the last group.

import { DROP_REASONS, type DropReason } from '../../wire/verdict.js';

const NAMES = [
  'rx_datagrams',
  'rx_bytes',
  'tx_datagrams',
  'tx_bytes',
  'tx_errors',
  'forwarded_packets',
  'forwarded_bytes',
  'delivered_packets',
  'control_frames',
  'control_messages',
  'pings_answered',
  'stun_answered',
  // A handshake message counts as received once its mac1 is valid.
  'handshake_initiations_received',
  'handshake_initiations_sent',
  'handshake_responses_received',
  'handshake_responses_sent',
  'cookie_replies_received',
  'cookie_replies_sent',
  'handshakes_completed',
  'transport_received',
  'transport_sent',
  'keepalives_received',
  'keepalives_sent',
  'endpoint_changes',
  'path_probes_sent',
  'path_probes_answered',
  'path_duplicates_sent',
  'suite_offers_received', // and left unanswered
  'covers_received',
  'drop_send_queue', // what waits to be sent is as much as may wait
  'drop_control_rate', // the budget of the contact leg
  'drop_peer_control_rate', // that of a peer inside its session
  'drop_stun_rate', // the budget of a source prefix
  'drop_handshake_rate', // proven by a cookie, and still too often
  'drop_bad_mac1',
  'drop_unknown_peer',
  'drop_unknown_index',
  'drop_bad_handshake', // does not open, or a low-order point
  'drop_replayed_initiation', // timestamp not later, or initiations less than 20 ms apart
  'drop_decrypt_failed',
  'drop_replayed',
  'drop_key_expired', // a transport message under a key older than 180 s
  'drop_no_tun', // an inner packet: this engine has nowhere to put it
  'drop_staging_overflow', // pushed out by 128 younger payloads, or given up after 90 s
  'drop_path_frame', // malformed, of a peer that agreed on no paths, or a probe that is not to be answered
  'drop_path_rate', // probes and answers of a peer
  'drop_probe_unsent', // no session, padded, or a way that is gone
  // This engine's own.
  'drop_handshake_queue_full',
  'drop_no_path', // for a leg that is not installed any more, or from an address that is not the host's
] as const;

export type CounterName = (typeof NAMES)[number];

export class Counters {
  readonly #values = new Map<string, number>([
    ...NAMES.map((name): [string, number] => [name, 0]),
    ...DROP_REASONS.map((reason): [string, number] => [`drop_${reason}`, 0]),
  ]);

  add(name: CounterName, amount = 1): void {
    this.#values.set(name, (this.#values.get(name) ?? 0) + amount);
  }

  /** Counts a drop decided by the forwarding table. */
  drop(reason: DropReason): void {
    const name = `drop_${reason}`;
    this.#values.set(name, (this.#values.get(name) ?? 0) + 1);
  }

  snapshot(): ReadonlyMap<string, number> {
    return new Map(this.#values);
  }
}
