// LANs behind members as the daemon runs them: what the operator typed or configured is kept and decided between, and
// the node is told. ExitSetup carries it out.

import { setTimeout as sleep } from 'node:timers/promises';
import { overlaps } from '../../core/exit/lan-prefix.js';
import type { RouteSettings } from '../../core/exit/exit-agent.js';
import { decodePeerId } from '../../core/protocol/peer-id.js';
import { OVERLAY_PREFIX_IPV6 } from '../../core/protocol/network.js';
import { networkOf } from '../../exit/denied-ranges.js';
import type { Routing } from '../../exit/exit-host.js';
import { ExitCode, OperatorError } from '../../host/operator-error.js';
import { routeReport, type RouteReport } from '../../status/model/route-report.js';
import { containsIp, formatPrefix, parsePrefix, type Prefix } from '../../wire/prefix.js';
import { parseSocketAddress } from '../../wire/socket-address.js';
import type { RouteConfiguration } from '../config/route-configuration.js';
import {
  acceptBeside,
  loadRouteSettings,
  saveRouteSettings,
  type RouteAcceptSettings,
  type RouteAdvertiseSettings,
  type StoredRouteSettings,
} from '../state/route-settings.js';
import type { StateDirectory } from '../state/state-directory.js';
import { requireInside, type ExitSetup } from './exit-setup.js';
import { lastingRights } from './granted-rights.js';

/** So long `route list` waits for members that are asked. */
const SURVEY_MS = 4000;
const POLL_MS = 100;

export interface RoutesOptions {
  readonly setup: ExitSetup;
  /** What the configuration says of routes, and where it is. */
  readonly configuration: RouteConfiguration;
  readonly source: string;
  readonly state: StateDirectory;
}

export class Routes {
  readonly #setup: ExitSetup;
  readonly #state: StateDirectory;
  readonly #source: string;
  /** What was typed. */
  #typed: StoredRouteSettings;
  /** What the file says, in its place. */
  #file: RouteConfiguration;

  /** @throws OperatorError when the settings cannot be read. */
  constructor({ setup, configuration, source, state }: RoutesOptions) {
    this.#setup = setup;
    this.#state = state;
    this.#source = source;
    this.#file = configuration;
    this.#typed = loadRouteSettings(state);
  }

  /** The file decides, as far as it says anything. */
  get #settings(): {
    readonly advertise: RouteConfiguration['advertise'];
    readonly accept: NonNullable<RouteConfiguration['accept']>;
  } {
    const advertise = this.#file.advertise ?? this.#typed.advertise;
    return {
      advertise: advertise === undefined || advertise.prefixes.length === 0 ? undefined : advertise,
      accept: this.#file.accept ?? this.#typed.accept,
    };
  }

  /** Prefixes in their one spelling. */
  get routing(): Routing {
    const { advertise, accept } = this.#settings;
    return {
      advertised: spelled(advertise?.prefixes ?? []),
      accepted: [...new Set(spelled(accept.map(({ prefix }) => prefix)))],
    };
  }

  /** Replaces what was advertised before. */
  advertise(advertise: RouteAdvertiseSettings): Promise<void> {
    return this.#setup.inTurn(async () => {
      this.#requireTyped('routes.advertise', this.#file.advertise !== undefined);
      requireInside(this.#setup.opened().engine);
      this.#setup.requireJoined(advertise.networks);
      this.#requireApart(advertise.prefixes, 'advertise');
      await this.#change({ ...this.#typed, advertise }, this.#file);
    });
  }

  /** Beside what was accepted before. */
  accept(accept: RouteAcceptSettings): Promise<void> {
    return this.#setup.inTurn(async () => {
      this.#requireTyped('routes.accept', this.#file.accept !== undefined);
      requireInside(this.#setup.opened().engine);
      this.#requireAcceptable(accept);
      const accepted = acceptBeside(this.#typed.accept, accept);
      await this.#change({ ...this.#typed, accept: accepted }, this.#file);
    });
  }

  /** @param accept prefixes that are accepted no more; `true`: all */
  off({ advertise, accept }: { advertise: boolean; accept: boolean | readonly string[] }): Promise<void> {
    return this.#setup.inTurn(async () => {
      this.#requireTyped('routes.advertise', advertise && (this.#file.advertise?.prefixes.length ?? 0) > 0);
      this.#requireTyped('routes.accept', accept !== false && (this.#file.accept?.length ?? 0) > 0);
      const { advertise: advertised, accept: accepted } = this.#typed;
      const unknown =
        typeof accept === 'boolean'
          ? undefined
          : accept.find((prefix) => accepted.every((route) => route.prefix !== prefix));
      if (unknown !== undefined)
        throw new OperatorError(
          ExitCode.usage,
          'route',
          `${unknown} is not accepted`,
          'See what is: omerta route list',
        );
      await this.#change(
        {
          ...(!advertise && advertised && { advertise: advertised }),
          accept:
            typeof accept === 'boolean'
              ? accept
                ? []
                : accepted
              : accepted.filter(({ prefix }) => !accept.includes(prefix)),
        },
        this.#file,
      );
    });
  }

  /** The file has changed. @throws OperatorError; then all is as before. */
  configure(configuration: RouteConfiguration): Promise<void> {
    return this.#setup.inTurn(async () => {
      if (JSON.stringify(this.#file) === JSON.stringify(configuration)) return;
      const { advertise, accept } = configuration;
      if ((advertise?.prefixes.length ?? 0) + (accept?.length ?? 0) > 0)
        requireInside(this.#setup.opened().engine);
      this.#requireApart(advertise?.prefixes ?? [], 'config routes.advertise');
      this.#requireAcceptable(accept ?? []);
      await this.#change(this.#typed, configuration);
    });
  }

  tellNode(): void {
    const settings = this.#nodeSettings();
    this.#setup.mesh?.shell.command((node, step) => node.setRoutes(settings, step));
  }

  /** @param ask whether members are asked first which LANs are behind them */
  async report(ask: boolean): Promise<RouteReport> {
    const { mesh, engine } = this.#setup.opened();
    await this.#setup.host.done;
    if (ask) {
      mesh.shell.command((node, step) => node.surveyRoutes(step));
      for (let waited = 0; waited < SURVEY_MS; waited += POLL_MS) {
        const { peerId, routes } = mesh.shell.status();
        if (routes.offers.every((offer) => offer.answer !== undefined || offer.peerId === peerId)) break;
        await sleep(POLL_MS);
      }
    }
    const { advertise } = this.#settings;
    const { routing } = this;
    return routeReport(mesh.shell.status(), engine.peers(), {
      allow: advertise?.allow ?? [],
      networks: advertise?.networks ?? [],
      onLink: this.#setup.host.onLink(routing.accepted, mesh.settings.config.node.interface),
      configured: [
        ...(this.#file.advertise === undefined ? [] : (['routes.advertise'] as const)),
        ...(this.#file.accept === undefined ? [] : (['routes.accept'] as const)),
      ],
      error: this.#setup.host.error,
    });
  }

  /** Kept once it is done; undone where it cannot be done. */
  async #change(typed: StoredRouteSettings, file: RouteConfiguration): Promise<void> {
    const before = [this.#typed, this.#file] as const;
    [this.#typed, this.#file] = [typed, file];
    try {
      await this.#setup.apply();
      if (typed !== before[0]) saveRouteSettings(this.#state, typed);
    } catch (error) {
      [this.#typed, this.#file] = before;
      await this.#setup.attempt(this.#setup.apply());
      throw error;
    }
    this.tellNode();
  }

  #nodeSettings(): RouteSettings {
    const { advertise, accept } = this.#settings;
    return {
      service: advertise && {
        rights: lastingRights(advertise, this.#setup.networkId),
        prefixes: parsed(advertise.prefixes),
      },
      accepted: accept.flatMap(({ prefix, from }) =>
        parsed([prefix]).map((each) => ({ prefix: each, from: decodePeerId(from) })),
      ),
    };
  }

  /** @throws OperatorError where the file says it. */
  #requireTyped(section: string, says: boolean): void {
    if (!says) return;
    throw new OperatorError(
      ExitCode.usage,
      section,
      `${section} of ${this.#source} says it, and holds in place of what is typed`,
      'Change it there, then type: omerta reload',
    );
  }

  #requireAcceptable(accept: readonly { readonly prefix: string; readonly from: string }[]): void {
    const { peerId, bootstraps } = this.#setup.opened().mesh.shell.status();
    this.#requireApart(
      accept.map(({ prefix }) => prefix),
      'accept',
    );
    if (accept.some(({ from }) => from === peerId))
      throw new OperatorError(
        ExitCode.usage,
        'accept',
        'this machine does not reach a LAN by itself as a member',
        'Name the member it is behind: omerta route list',
      );
    for (const { address } of bootstraps) {
      const ip = parseSocketAddress(address)?.ip;
      const holding = ip && parsed(accept.map(({ prefix }) => prefix)).find((each) => containsIp(each, ip));
      if (holding === undefined) continue;
      throw new OperatorError(
        ExitCode.usage,
        'accept',
        `${formatPrefix(holding)} holds ${address}, a bootstrap: the mesh would be sent into itself`,
        'Accept a longer prefix without that address',
      );
    }
  }

  /** Inner addresses of members are reached as members. @throws OperatorError */
  #requireApart(prefixes: readonly string[], field: string): void {
    const own = this.#setup
      .opened()
      .mesh.shell.node.overlay.flatMap(({ ipv6 }) => parsed([`${ipv6}/${OVERLAY_PREFIX_IPV6}`]));
    const shared = parsed(prefixes).find((prefix) => own.some((each) => overlaps(each, prefix)));
    if (shared === undefined) return;
    throw new OperatorError(
      ExitCode.usage,
      field,
      `${formatPrefix(shared)} has addresses of members in it`,
      'Name a prefix of the LAN alone',
    );
  }
}

const parsed = (prefixes: readonly string[]): Prefix[] =>
  prefixes.flatMap((text) => parsePrefix(text) ?? []).map(networkOf);
const spelled = (prefixes: readonly string[]): string[] => parsed(prefixes).map(formatPrefix);
