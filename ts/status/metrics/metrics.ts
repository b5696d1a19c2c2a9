// The daemon's state in the Prometheus text format. Nothing is kept between scrapes: the engine and
// the core do the counting.

import { Counter, Gauge, Registry } from 'prom-client';
import type { QueueStatus } from '../../contract/engine.js';
import type { DaemonStatus } from '../model/daemon-status.js';
import { obstacles } from '../model/readiness.js';

/** The text of /metrics and its content type. */
export async function renderMetrics(status: DaemonStatus): Promise<{ text: string; contentType: string }> {
  const registry = new Registry();
  const registers = [registry];
  const gauge = (name: string, help: string, value: number): void => {
    new Gauge({ name, help, registers }).set(value);
  };
  const counter = (name: string, help: string, value: number): void => {
    new Counter({ name, help, registers }).inc(value);
  };

  new Gauge({
    name: 'omerta_info',
    help: 'Always 1; who this node is.',
    labelNames: ['version', 'peer_id', 'mode', 'engine', 'aead'],
    registers,
  }).set(
    {
      version: status.version,
      peer_id: status.mesh.peerId,
      mode: status.mode,
      engine: status.engine.kind,
      aead: status.engine.aead,
    },
    1,
  );
  const accelerator = new Gauge({
    name: 'omerta_accelerator_on',
    help: '1 if an accelerator is in use.',
    labelNames: ['name'],
    registers,
  });
  for (const { name, state } of status.engine.accelerators) accelerator.set({ name }, state === 'on' ? 1 : 0);
  gauge(
    'omerta_ready',
    '1 if nothing keeps it from what it is there for; /readyz says what does.',
    obstacles(status).length === 0 ? 1 : 0,
  );
  gauge('omerta_uptime_seconds', 'Seconds since the daemon started.', status.uptimeSeconds);
  if (status.tunnel !== undefined)
    gauge(
      'omerta_tunnel_up',
      '1 if the interface is there, up, has addresses and is led to.',
      status.tunnel.state === 'up' ? 1 : 0,
    );
  gauge('omerta_sessions', 'Peers in the session table.', status.sessions.length);
  gauge('omerta_legs', 'Legs in the forwarding table.', status.legs);

  const members = new Gauge({
    name: 'omerta_members',
    help: 'Other members known, by network and path.',
    labelNames: ['network', 'path'],
    registers,
  });
  for (const network of status.mesh.networks)
    for (const path of ['direct', 'relay', 'none'])
      members.set(
        { network: network.name, path },
        network.members.filter((member) => member.path === path).length,
      );
  const registered = new Gauge({
    name: 'omerta_bootstrap_registered',
    help: '1 if registered with this bootstrap.',
    labelNames: ['peer_id'],
    registers,
  });
  for (const { peerId, state } of status.mesh.bootstraps)
    registered.set({ peer_id: peerId }, state === 'registered' ? 1 : 0);

  const { relay } = status.mesh;
  if (relay !== undefined) {
    gauge('omerta_registrations', 'Records registered with this relay.', relay.registrations);
    gauge('omerta_standing_policies', 'Standing policies this relay holds.', relay.standingPolicies);
    gauge('omerta_admissions', 'Admissions held by this relay.', relay.admissions);
    gauge('omerta_circuits', 'Circuits through this relay.', relay.circuits.length);
    gauge('omerta_draining', '1 while this relay drains.', relay.drain === undefined ? 0 : 1);
    gauge(
      'omerta_drain_clients',
      'Clients that have not left a relay that drains, other relays aside.',
      relay.drain?.clients ?? 0,
    );
    gauge('omerta_circuits_half_open', 'Circuits that wait for consent.', relay.halfOpen);
    const refusals = new Counter({
      name: 'omerta_refusals_total',
      help: 'Refusals and silent drops of the control plane, by reason.',
      labelNames: ['reason'],
      registers,
    });
    for (const [reason, count] of Object.entries(relay.refusals)) refusals.inc({ reason }, count);
  }

  for (const [what, help] of ACCOUNT_COUNTERS) {
    const name = `omerta_network_${what}_total`;
    const perNetwork = new Counter({
      name,
      help: `${help}, by network.`,
      labelNames: ['network'],
      registers,
    });
    for (const account of status.accounts?.networks ?? [])
      perNetwork.inc({ network: account.id }, account[what]);
  }

  const drops = new Counter({
    name: 'omerta_control_drops_total',
    help: 'Control frames and records that were not as they should be, by reason.',
    labelNames: ['reason'],
    registers,
  });
  for (const [reason, count] of Object.entries(status.mesh.drops)) drops.inc({ reason }, count);
  gauge(
    'omerta_store_written',
    '1 if what was learnt is on the disk.',
    status.store.error === undefined ? 1 : 0,
  );
  counter('omerta_log_lines_lost_total', 'Lines of the log that could not be written.', status.log.lost);
  counter(
    'omerta_log_lines_held_back_total',
    'Lines of the log left out: too many of one event about one identity.',
    status.log.heldBack,
  );
  counter('omerta_step_failures_total', 'Steps of the control plane that failed.', status.failures);
  for (const name of Object.keys(status.counters)) {
    const perWorker = new Counter({
      name: `omerta_${name}_total`,
      help: `Engine counter ${name}.`,
      labelNames: ['worker'],
      registers,
    });
    for (const worker of status.workers) perWorker.inc({ worker: worker.name }, worker.counters[name] ?? 0);
  }
  for (const [name, help, value] of QUEUE_GAUGES) {
    const perWorker = new Gauge({ name, help, labelNames: ['worker'], registers });
    for (const worker of status.workers)
      if (worker.queues !== undefined) perWorker.set({ worker: worker.name }, value(worker.queues));
  }
  const text = `${await registry.metrics()}${latencyText(status)}`;
  return { text, contentType: registry.contentType };
}

/** Identities are too many for labels: `omerta relay accounts` has them one by one. */
const ACCOUNT_COUNTERS = [
  ['packets', 'Frames relayed'],
  ['bytes', 'Bytes relayed, headers included'],
  ['refused', 'Frames refused for the limit of the account'],
] as const;

const QUEUE_GAUGES: readonly (readonly [string, string, (queues: QueueStatus) => number])[] = [
  ['omerta_receive_queue_bytes', 'Kernel memory of datagrams that wait.', (queues) => queues.receiveBytes],
  ['omerta_receive_queue_limit_bytes', 'Above this they are dropped.', (queues) => queues.receiveLimitBytes],
  ['omerta_receive_queue_peak_bytes', 'The most found waiting.', (queues) => queues.receivePeakBytes],
  ['omerta_send_queue_bytes', 'Kernel memory of datagrams not sent yet.', (queues) => queues.sendBytes],
  ['omerta_send_queue_limit_bytes', 'At this sending waits.', (queues) => queues.sendLimitBytes],
];

/** The engine's buckets as they are: prom-client only takes one sample at a time. */
function latencyText(status: DaemonStatus): string {
  const name = 'omerta_forward_latency_seconds';
  const lines = status.workers.flatMap(({ name: worker, latency }) => {
    if (latency === undefined) return [];
    let seen = 0;
    const buckets = latency.counts.map((count, bucket) => {
      seen += count;
      const bound = latency.boundsNs[bucket];
      const le = bound === undefined ? '+Inf' : String(bound / 1e9);
      return `${name}_bucket{worker="${worker}",le="${le}"} ${seen}`;
    });
    return [
      ...buckets,
      `${name}_sum{worker="${worker}"} ${latency.sumNs / 1e9}`,
      `${name}_count{worker="${worker}"} ${seen}`,
    ];
  });
  if (lines.length === 0) return '';
  const help = "Forwarded frames, from the kernel's receipt to the send's return; sampled 10 ms each second.";
  return ['', `# HELP ${name} ${help}`, `# TYPE ${name} histogram`, ...lines, ''].join('\n');
}
