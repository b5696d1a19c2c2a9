// Rates of a few engine counters over the last five minutes, for the charts of the status page.

export const SAMPLE_INTERVAL_MS = 2000;
const MAX_SAMPLES = 150;

/** What is charted: a name and the counters summed up for it. */
export interface RateSeries {
  readonly title: string;
  readonly unit: 'bytes' | 'packets';
  /** Per second, oldest first. */
  readonly values: readonly number[];
}

const SERIES: readonly { title: string; unit: RateSeries['unit']; counts: (counter: string) => boolean }[] = [
  { title: 'Received', unit: 'bytes', counts: (counter) => counter === 'rx_bytes' },
  { title: 'Sent', unit: 'bytes', counts: (counter) => counter === 'tx_bytes' },
  { title: 'Forwarded', unit: 'bytes', counts: (counter) => counter === 'forwarded_bytes' },
  { title: 'Dropped', unit: 'packets', counts: (counter) => counter.startsWith('drop_') },
];

export class RateSampler {
  #last: { readonly at: number; readonly totals: readonly number[] } | undefined;
  readonly #values: number[][] = SERIES.map(() => []);

  /** @param now monotonic ms. */
  sample(now: number, counters: ReadonlyMap<string, number>): void {
    const totals = SERIES.map(({ counts }) => {
      let total = 0;
      for (const [name, value] of counters) if (counts(name)) total += value;
      return total;
    });
    if (this.#last !== undefined && now > this.#last.at) {
      const seconds = (now - this.#last.at) / 1000;
      for (const [index, values] of this.#values.entries()) {
        const difference = (totals[index] ?? 0) - (this.#last.totals[index] ?? 0);
        values.push(Math.max(0, difference) / seconds); // a reopened engine counts from zero again
        if (values.length > MAX_SAMPLES) values.shift();
      }
    }
    this.#last = { at: now, totals };
  }

  series(): RateSeries[] {
    return SERIES.map(({ title, unit }, index) => ({
      title,
      unit,
      values: [...(this.#values[index] ?? [])],
    }));
  }
}
