/** The earliest of these deadlines (monotonic ms); undefined = none of them runs. */
export function earliest(...deadlines: readonly (number | undefined)[]): number | undefined {
  let found: number | undefined;
  for (const at of deadlines) if (at !== undefined && (found === undefined || at < found)) found = at;
  return found;
}
