// Results: what was measured, what it should be, and whether it was.

export interface Result {
  readonly what: string;
  readonly value: string;
  /** What it should be; undefined when there is no mark to meet. */
  readonly mark: string | undefined;
  readonly met: boolean;
  /** The numbers behind `value`, for programs that read the JSON. */
  readonly data: Readonly<Record<string, number | undefined>>;
}

type Data = Result['data'];

export class Report {
  readonly results: Result[] = [];

  /** Adds a value that has no mark to meet. */
  note(what: string, value: string, data: Data = {}): void {
    this.results.push({ what, value, mark: undefined, met: true, data });
  }

  /** Adds a value that should meet a mark. */
  judge(what: string, value: string, mark: string, met: boolean, data: Data = {}): void {
    this.results.push({ what, value, mark, met, data });
  }

  get failed(): boolean {
    return this.results.some((result) => !result.met);
  }

  /** A table for people. */
  table(): string {
    const rows = this.results.map(({ what, value, mark, met }) => [
      met ? ' ' : '✗',
      what,
      value,
      mark === undefined ? '' : `${mark}${met ? '' : '  MISSED'}`,
    ]);
    rows.unshift(['', 'what', 'result', 'should be']);
    return formatTable(rows);
  }
}

/** Columns as wide as they have to be; a long value that nothing follows in its row pushes none away. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const columns = Math.max(...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(
      0,
      ...rows
        .filter((row) => row.slice(column + 1).some((cell) => cell !== ''))
        .map((row) => row[column]?.length ?? 0),
    ),
  );
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Milliseconds with as many digits as mean something. */
export function formatMs(milliseconds: number | undefined): string {
  if (milliseconds === undefined) return 'never';
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(2)} s`;
  return `${milliseconds.toFixed(milliseconds < 10 ? 2 : 0)} ms`;
}

/** Mbit/s without digits that mean nothing. */
export function formatRate(megabits: number): string {
  return `${megabits.toFixed(0)} Mbit/s`;
}
