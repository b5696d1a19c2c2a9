// Options of the lab's commands.

export class UsageError extends Error {}

/** @throws UsageError */
export function positive(name: string, text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new UsageError(`--${name} wants a whole number greater than 0, not "${text}"`);
}
