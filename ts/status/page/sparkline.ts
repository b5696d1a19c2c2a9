// A small filled line chart as inline SVG, without scripts.

const WIDTH = 240;
const HEIGHT = 48;

/** @param values oldest first; @param slots how many values fill the width. */
export function sparkline(values: readonly number[], slots = 150): string {
  const top = Math.max(...values, 1);
  const x = (index: number): string => (((slots - values.length + index) / (slots - 1)) * WIDTH).toFixed(1);
  const y = (value: number): string => (HEIGHT - 2 - (value / top) * (HEIGHT - 6)).toFixed(1);
  const points = values.map((value, index) => `${x(index)},${y(value)}`).join(' ');
  const area =
    values.length < 2
      ? ''
      : `<polygon class="area" points="${x(0)},${HEIGHT} ${points} ${x(values.length - 1)},${HEIGHT}"/>` +
        `<polyline class="line" points="${points}"/>`;
  return (
    `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img" aria-hidden="true">` +
    `<line class="base" x1="0" y1="${HEIGHT - 1}" x2="${WIDTH}" y2="${HEIGHT - 1}"/>${area}</svg>`
  );
}
