// The daemon's state in the Prometheus text format. Nothing is kept between scrapes: the engine and
// the core do the counting.

import { Counter, Gauge, Registry } from 'prom-client';
import type { DaemonStatus } from './daemon-status.js';

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
  gauge('omerta_uptime_seconds', 'Seconds since the daemon started.', status.uptimeSeconds);
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
    gauge('omerta_admissions', 'Admissions held by this relay.', relay.admissions);
    gauge('omerta_circuits', 'Circuits through this relay.', relay.circuits.length);
    gauge('omerta_circuits_half_open', 'Circuits that wait for consent.', relay.halfOpen);
    const refusals = new Counter({
      name: 'omerta_refusals_total',
      help: 'Refusals and silent drops of the control plane, by reason.',
      labelNames: ['reason'],
      registers,
    });
    for (const [reason, count] of Object.entries(relay.refusals)) refusals.inc({ reason }, count);
  }

  const drops = new Counter({
    name: 'omerta_control_drops_total',
    help: 'Control frames and records that were not as they should be, by reason.',
    labelNames: ['reason'],
    registers,
  });
  for (const [reason, count] of Object.entries(status.mesh.drops)) drops.inc({ reason }, count);
  counter('omerta_step_failures_total', 'Steps of the control plane that failed.', status.failures);
  for (const [name, value] of Object.entries(status.counters))
    counter(`omerta_${name}_total`, `Engine counter ${name}.`, value);
  return { text: await registry.metrics(), contentType: registry.contentType };
}
