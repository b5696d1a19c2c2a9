// The machine's guard (`omerta guard`): closed before the network is there, by a file for nft and by what loads it at
// boot. No process owns it, no journal has it: what installs it and what removes it are the same verbs.

import { chmodSync, existsSync, readFileSync, rmdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { makeFolders } from '../host/make-folders.js';
import { ExitCode, messageOf, OperatorError, systemErrorCode } from '../host/operator-error.js';
import { BOOT_TABLE } from './exit-numbers.js';
import { bootTable, IP_CHAINS } from './guard-table.js';
import { HostCommandError, programPath, runCommand, type RunCommand } from './host-commands.js';

/** What starts programs before the network: systemd; or ifupdown, in front of each interface. */
export type BootLoader = 'systemd' | 'ifupdown';

export interface BootGuardStatus {
  /** What loads it at boot; undefined = it is not installed. */
  readonly loader: BootLoader | undefined;
  /** Whether it holds now. */
  readonly isOn: boolean;
  /** The interface it lets through, and whether private prefixes are; undefined = it is not installed. */
  readonly tunnel: string | undefined;
  readonly allowLan: boolean;
  /** What is loaded at boot. */
  readonly file: string;
}

export interface BootGuardOptions {
  readonly run?: RunCommand;
  /** In place of `/`; tests give another. */
  readonly root?: string;
}

const UNIT = 'omerta-guard.service';
/**
 * What gives interfaces addresses does not start where the guard cannot be loaded: closed is closed.
 */
const HELD_BACK = [
  'network-pre.target',
  'systemd-networkd.service',
  'NetworkManager.service',
  'networking.service',
  'ifup@.service',
  'dhcpcd.service',
  'connman.service',
] as const;

export class BootGuard {
  readonly #run: RunCommand;
  readonly #root: string;

  constructor({ run = runCommand, root = '/' }: BootGuardOptions = {}) {
    this.#run = run;
    this.#root = root;
  }

  /** Whether it was installed; the tables are the kernel's to say. */
  get isInstalled(): boolean {
    return existsSync(this.#file);
  }

  get #file(): string {
    return this.#path('etc/omerta/guard.nft');
  }

  get #unit(): string {
    return this.#path(`etc/systemd/system/${UNIT}`);
  }

  get #hook(): string {
    return this.#path('etc/network/if-pre-up.d/omerta-guard');
  }

  /** The table is loaded before the files are there: what fails later leaves the machine closed. @throws OperatorError */
  async install(tunnel: string, allowLan: boolean): Promise<void> {
    const loader = this.#loader();
    if (loader === undefined)
      throw new OperatorError(
        ExitCode.failure,
        'guard',
        'neither systemd nor ifupdown starts this machine, so nothing here would load it before the network',
        'Nothing was changed. To close it while omerta runs: omerta exit use PEER --paranoid',
      );
    const nft = programPath('nft');
    const text = bootTable(tunnel, allowLan);
    const settings = `# ${JSON.stringify({ tunnel, allowLan })}\n`;
    await this.#load(text);
    try {
      this.#write(this.#file, `${settings}${text}`, 0o644);
      if (loader === 'systemd') this.#installUnit(nft);
      else this.#write(this.#hook, `#!/bin/sh\nexec ${nft} -f ${this.#file}\n`, 0o755);
    } catch (error) {
      throw denied(error, 'this machine is closed now, and would be open after its next boot');
    }
    if (loader === 'systemd') await this.#reloadUnits();
  }

  /** What loads it goes first: at no moment is it on and would come back. @throws OperatorError */
  async remove(): Promise<void> {
    try {
      for (const held of HELD_BACK) {
        const folder = this.#requires(held);
        rmSync(join(folder, UNIT), { force: true });
        removeEmpty(folder);
      }
      const had = existsSync(this.#unit);
      for (const path of [this.#unit, this.#hook, this.#file]) rmSync(path, { force: true });
      removeEmpty(dirname(this.#file));
      if (had) await this.#reloadUnits();
    } catch (error) {
      throw denied(error, 'this machine stays closed');
    }
    await this.#load(`table inet ${BOOT_TABLE}\ndelete table inet ${BOOT_TABLE}\n`);
  }

  /** Loads it again where it is installed and another program took it away. @throws OperatorError */
  async restore(): Promise<boolean> {
    if (!this.isInstalled || (await this.#isOn())) return false;
    await this.#load(readFileSync(this.#file, 'utf8'));
    return true;
  }

  async status(): Promise<BootGuardStatus> {
    const settings = this.isInstalled ? settingsOf(readFileSync(this.#file, 'utf8')) : undefined;
    const loaders: readonly (readonly [BootLoader, string])[] = [
      ['systemd', this.#unit],
      ['ifupdown', this.#hook],
    ];
    return {
      loader: settings && loaders.find(([, path]) => existsSync(path))?.[0],
      isOn: await this.#isOn(),
      tunnel: settings?.tunnel,
      allowLan: settings?.allowLan === true,
      file: this.#file,
    };
  }

  #installUnit(nft: string): void {
    this.#write(this.#unit, unitText(nft, this.#file), 0o644);
    for (const held of HELD_BACK) {
      const link = join(this.#requires(held), UNIT);
      makeFolders(dirname(link));
      rmSync(link, { force: true });
      symlinkSync(join('..', UNIT), link);
    }
  }

  #requires(unit: string): string {
    return this.#path(`etc/systemd/system/${unit}.requires`);
  }

  /** sd_booted(3), as systemd's own programs find out whether it runs the machine. */
  #loader(): BootLoader | undefined {
    if (existsSync(this.#path('run/systemd/system'))) return 'systemd';
    return existsSync(dirname(this.#hook)) && existsSync(this.#path('etc/network')) ? 'ifupdown' : undefined;
  }

  /** A table whose chains another program took away closes nothing. */
  async #isOn(): Promise<boolean> {
    const printed = await this.#run('nft', ['-json', 'list', 'chains']).catch((error: unknown) => {
      throw denied(error, 'whether the guard is on cannot be told');
    });
    const { nftables } = JSON.parse(printed) as {
      readonly nftables: readonly {
        readonly chain?: { readonly family: string; readonly table: string; readonly name: string };
      }[];
    };
    return IP_CHAINS.every((name) =>
      nftables.some(
        ({ chain }) => chain?.family === 'inet' && chain.table === BOOT_TABLE && chain.name === name,
      ),
    );
  }

  async #load(text: string): Promise<void> {
    await this.#run('nft', ['-f', '-'], text).catch((error: unknown) => {
      throw denied(error, 'nothing was changed');
    });
  }

  /** At the next boot it is read anyway. */
  async #reloadUnits(): Promise<void> {
    if (this.#root === '/') await this.#run('systemctl', ['daemon-reload']).catch(() => undefined);
  }

  #write(path: string, text: string, mode: number): void {
    makeFolders(dirname(path));
    writeFileSync(path, text, { mode });
    chmodSync(path, mode); // also of one that was there
  }

  #path(path: string): string {
    return join(this.#root, path);
  }
}

function unitText(nft: string, file: string): string {
  return [
    '[Unit]',
    'Description=Nothing leaves this machine but by the tunnel (omerta guard)',
    'DefaultDependencies=no',
    // That one flushes all tables when it starts.
    'After=local-fs.target nftables.service',
    'ReloadPropagatedFrom=nftables.service',
    'Wants=network-pre.target',
    // Not all of these wait for the target: dhcpcd's unit does not.
    `Before=${HELD_BACK.filter((name) => !name.includes('@')).join(' ')}`,
    'RefuseManualStop=yes',
    '',
    '[Service]',
    'Type=oneshot',
    'RemainAfterExit=yes',
    `ExecStart=${nft} -f ${file}`,
    `ExecReload=${nft} -f ${file}`,
    '',
    '[Install]',
    `RequiredBy=${HELD_BACK.join(' ')}`,
    '',
  ].join('\n');
}

function settingsOf(text: string): { readonly tunnel: string; readonly allowLan: boolean } | undefined {
  try {
    return JSON.parse(text.split('\n')[0]?.replace(/^# /, '') ?? '') as { tunnel: string; allowLan: boolean };
  } catch {
    return undefined;
  }
}

/** Others may have put something there. */
function removeEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch (error) {
    if (!['ENOENT', 'ENOTEMPTY'].includes(systemErrorCode(error) ?? '')) throw error;
  }
}

function denied(error: unknown, consequence: string): OperatorError {
  if (error instanceof OperatorError) return error;
  const isDenied =
    ['EACCES', 'EPERM'].includes(systemErrorCode(error) ?? '') ||
    (error instanceof HostCommandError && /not permitted|must be root/.test(error.said));
  return new OperatorError(
    isDenied ? ExitCode.permission : ExitCode.failure,
    'guard',
    `${messageOf(error)}; ${consequence}`,
    isDenied ? 'Run it as root' : 'See docs/exit.md, "Closed from boot on"',
  );
}
