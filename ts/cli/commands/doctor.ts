// omerta doctor: what works on this machine, and what to type for what does not.

import type { Command } from 'commander';
import type { Check } from '../../daemon/doctor/diagnosis.js';
import { ExitCode } from '../../host/operator-error.js';
import { Context, print, printJson } from '../context.js';
import { explain } from '../help.js';

function line({ name, ok, required, detail, remedy }: Check): string {
  const mark = ok ? '✓' : '✗';
  const weight = ok || required ? '' : ' (optional)';
  const next = ok || remedy === undefined ? '' : `\n    → ${remedy}`;
  return `${mark} ${name}${weight}: ${detail}${next}`;
}

export function doctorCommand(program: Command): void {
  const command = program
    .command('doctor')
    .summary('check what this machine can do')
    .description(
      'Checks whether this machine can run a relay or be a member, which engine and accelerators are in use, ' +
        'and says for everything that is missing why, and what to type. Changes nothing.',
    )
    .option('--json', 'print as JSON')
    .action(async ({ json }: { json?: boolean }, self: Command) => {
      const context = Context.of(self);
      const { diagnose } = await import('../../daemon/doctor/diagnosis.js');
      const { Configuration } = await import('../configuration.js');
      const checks = await diagnose(context.state, () => new Configuration(context).read());
      const able = checks.every(({ ok, required }) => ok || !required);
      if (json === true) printJson({ ableToRelay: able, checks });
      else
        print(
          [...checks.map(line), '', able ? 'A relay can run here.' : 'A relay cannot run here yet.'].join(
            '\n',
          ),
        );
      if (!able) process.exitCode = ExitCode.failure;
    });
  explain(command, ['omerta doctor', 'omerta doctor --json'], { 1: 'a relay cannot run on this machine' });
}
