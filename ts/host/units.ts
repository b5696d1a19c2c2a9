// Numbers as people read them.

/** `1.5 MB`: powers of 1000, at most three digits. */
export function formatBytes(bytes: number): string {
  return scaled(bytes, ['B', 'kB', 'MB', 'GB', 'TB', 'PB']);
}

/** `12.3 k` */
export function formatCount(count: number): string {
  return scaled(count, ['', 'k', 'M', 'G']).trimEnd();
}

function scaled(value: number, units: readonly string[]): string {
  let step = 0;
  let rest = value;
  while (rest >= 999.5 && step < units.length - 1) {
    rest /= 1000;
    step++;
  }
  const digits = step === 0 || rest >= 99.95 ? 0 : 1;
  return `${rest.toFixed(digits)} ${units[step] ?? ''}`;
}

/** `33 µs`: nanoseconds in the unit that leaves one to three digits. */
export function formatNanoseconds(ns: number): string {
  return ns === Infinity ? '∞' : scaled(ns, ['ns', 'µs', 'ms', 's']);
}

/** `3 d 4 h`, `5 min 2 s`: the two largest units. */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const parts: [number, string][] = [
    [Math.floor(whole / 86_400), 'd'],
    [Math.floor(whole / 3600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'min'],
    [whole % 60, 's'],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return '0 s';
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(' ');
}
