// Horizontal bars in groups, as an SVG that needs no script and no font of its own.

export interface BarGroup {
  readonly title: string;
  /** Values must be positive: the scale is logarithmic and begins at 10. NaN = not measured. */
  readonly bars: readonly { readonly label: string; readonly value: number; readonly own: boolean }[];
}

const WIDTH = 760;
/** Of a label, at most: fonts differ. */
const CHARACTER = 7;
const RIGHT = 80;
const ROW = 20;
const DECADES = [10, 100, 1000, 10_000];

const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

export function barChart(title: string, groups: readonly BarGroup[]): string {
  const bars = groups.flatMap((group) => group.bars);
  const largest = Math.max(100, ...bars.map(({ value }) => value).filter((value) => !Number.isNaN(value)));
  const left = 20 + CHARACTER * Math.max(...bars.map(({ label }) => label.length));
  const x = (value: number): number =>
    left + (Math.log10(Math.max(value, 10) / 10) / Math.log10(largest / 10)) * (WIDTH - left - RIGHT);
  const body: string[] = [];
  let y = 44;
  for (const group of groups) {
    body.push(`<text x="12" y="${y + 14}" font-weight="600">${escape(group.title)}</text>`);
    y += ROW + 4;
    for (const { label, value, own } of group.bars) {
      const isMeasured = !Number.isNaN(value);
      const end = isMeasured ? x(value) : left;
      const text = isMeasured ? Math.round(value).toLocaleString('en-US') : 'not measured';
      body.push(
        `<text x="${left - 8}" y="${y + 13}" text-anchor="end">${escape(label)}</text>`,
        `<rect x="${left}" y="${y + 2}" width="${(end - left).toFixed(1)}" height="14" fill="${own ? '#0b6e4f' : '#9aa5b1'}"/>`,
        `<text x="${(end + 6).toFixed(1)}" y="${y + 13}">${text}</text>`,
      );
      y += ROW;
    }
    y += 12;
  }
  const grid = DECADES.filter((value) => value <= largest).map(
    (value) =>
      `<line x1="${x(value).toFixed(1)}" y1="40" x2="${x(value).toFixed(1)}" y2="${y}" stroke="#e1e5ea"/>` +
      `<text x="${x(value).toFixed(1)}" y="${y + 14}" text-anchor="middle" fill="#5a6672">${value.toLocaleString('en-US')}</text>`,
  );
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y + 24}" viewBox="0 0 ${WIDTH} ${y + 24}" font-family="sans-serif" font-size="12" fill="#1f2933">`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    `<text x="12" y="24" font-size="15" font-weight="600">${escape(title)}</text>`,
    ...grid,
    ...body,
    '</svg>',
  ].join('\n')}\n`;
}
