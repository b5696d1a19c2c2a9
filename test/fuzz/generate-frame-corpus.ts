// Writes the seed corpus of native/fuzz/fuzz_frame.cc: from every golden sequence the first packet
// of each outcome. Run `node dist/test/fuzz/generate-frame-corpus.js` from the root.

import { mkdirSync, writeFileSync } from 'node:fs';
import { goldenSequences } from '../golden/generate.js';
import { bytesOf } from '../golden/golden.js';

const CORPUS = 'test/fuzz/corpus/fuzz_frame';
const LARGEST = 160;
// Bits of the input's first byte, see fuzz_frame.cc.
const RIGHT_TAG = 0x80;
const KNOWN_SOURCE = 0x01;

mkdirSync(CORPUS, { recursive: true });
goldenSequences().forEach((sequence, index) => {
  const seen = new Set<string>();
  for (const packet of sequence.packets) {
    const outcome = packet.verdict === 'drop' ? packet.reason : packet.verdict;
    const datagram = bytesOf(packet.hex, packet.zeros);
    if (seen.has(outcome) || datagram.length > LARGEST) continue;
    seen.add(outcome);
    const selector = packet.verdict === 'drop' ? KNOWN_SOURCE : KNOWN_SOURCE | RIGHT_TAG;
    const name = `${String(index).padStart(2, '0')}-${outcome.replaceAll('_', '-')}`;
    writeFileSync(`${CORPUS}/${name}`, Uint8Array.of(selector, ...datagram));
  }
});
