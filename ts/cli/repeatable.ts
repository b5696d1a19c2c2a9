// An option that may be given several times.

import { Option } from 'commander';

/** Its value is what was given, in order; undefined when nothing was. */
export function repeatable(flags: string, description: string): Option {
  return new Option(flags, description).argParser((value: string, previous: string[] | undefined) => [
    ...(previous ?? []),
    value,
  ]);
}
