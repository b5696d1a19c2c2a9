import assert from 'node:assert/strict';
import { test } from 'node:test';
import { barChart } from '../../bench/bar-chart.js';

test('a bar chart shows what was measured beside what was not, and labels whole', () => {
  const long = 'wireguard-go 0.0.20250522, slirp4netns';
  const svg = barChart('Mbit/s', [
    {
      title: 'one',
      bars: [
        { label: 'own', value: 1000, own: true },
        { label: long, value: NaN, own: false },
      ],
    },
  ]);
  assert.doesNotMatch(svg, /NaN/);
  const [, own, absent] = [...svg.matchAll(/<rect [^>]*width="([^"]*)"/g)].map(([, width]) => width);
  assert.ok(Number(own) > 100);
  assert.equal(Number(absent), 0);
  assert.ok(svg.includes('>not measured</text>'));
  const end = Number(/<text x="(\d+)" y="\d+" text-anchor="end">wireguard/.exec(svg)?.[1]);
  assert.ok(end >= 6.5 * long.length, 'begins outside the picture');
});
