import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { bech32m } from '@scure/base';
import fc from 'fast-check';
import { plain } from './fixtures.js';
import { compareBytes, sameBytes, toHex } from '../../ts/wire/bytes.js';
import { encodedBootstrap } from '../../ts/core/protocol/bootstrap-codec.js';
import { encodeCbor } from '../../ts/core/protocol/cbor.js';
import { decodeInvite, encodeInvite } from '../../ts/core/protocol/invite.js';
import {
  blindedNetworkId,
  combinePresharedKeys,
  membershipKey,
  membershipProof,
  networkPresharedKey,
  overlayAddresses,
  type Bootstrap,
  type Network,
} from '../../ts/core/protocol/network.js';
import { decodeRelayLink, encodeRelayLink } from '../../ts/core/protocol/relay-link.js';
import { decodePeerId, encodePeerId } from '../../ts/core/protocol/peer-id.js';
import { nodePrimitives } from '../../ts/engine/node-primitives.js';
import { isIPv4, parseIp, parseSocketAddress, sameSocketAddress } from '../../ts/wire/socket-address.js';

const exactly = (length: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: length, maxLength: length });
const name = fc.stringMatching(/^[a-z0-9-]{1,63}$/);
const socketAddress = plain({ ip: exactly(16), port: fc.integer({ min: 1, max: 65535 }) });
const bootstrap: fc.Arbitrary<Bootstrap> = plain({
  identity: exactly(32),
  sessionKey: exactly(32),
  addresses: fc.array(socketAddress, { minLength: 1, maxLength: 8 }),
});
const network: fc.Arbitrary<Network> = plain({
  id: exactly(16),
  name,
  key: exactly(32),
  bootstraps: fc.array(bootstrap, { maxLength: 8 }),
});

describe('a peer id', () => {
  it('is read back as the identity it was made of', () => {
    fc.assert(
      fc.property(exactly(32), (identity) => {
        const text = encodePeerId(identity);
        assert.match(text, /^omerta1[02-9ac-hj-np-z]+$/);
        assert.deepEqual(decodePeerId(text), identity);
        assert.deepEqual(decodePeerId(`  ${text.toUpperCase()}\n`), identity);
      }),
    );
  });

  it('with one or two characters mistyped is refused', () => {
    const alphabet = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l';
    fc.assert(
      fc.property(
        exactly(32),
        fc.array(fc.tuple(fc.nat(57), fc.nat(30)), { minLength: 1, maxLength: 2 }),
        (identity, typos) => {
          const text = encodePeerId(identity);
          const typed = Array.from(text);
          for (const [at, shift] of typos) {
            const index = 'omerta1'.length + at;
            const letter = alphabet.indexOf(typed[index] ?? '');
            typed[index] = alphabet[(letter + 1 + shift) % 32] ?? '';
          }
          fc.pre(typed.join('') !== text);
          assert.throws(() => decodePeerId(typed.join('')), /peer-id-damaged/);
        },
      ),
    );
  });

  it('of another kind is refused by name', () => {
    const link = encodeInvite({ id: new Uint8Array(16), name: 'n', key: new Uint8Array(32), bootstraps: [] });
    assert.throws(() => decodePeerId(link), /peer-id-/);
    assert.throws(() => encodePeerId(new Uint8Array(31)), /32 are needed/);
  });
});

describe('an invite link', () => {
  it('is read back as the network it was made of', () => {
    fc.assert(
      fc.property(network, (original) => {
        assert.deepEqual(decodeInvite(encodeInvite(original)), original);
      }),
    );
  });

  it('cut short anywhere, or with a character changed, is refused and not repeated in the error', () => {
    fc.assert(
      fc.property(network, fc.nat(), (original, at) => {
        const link = encodeInvite(original);
        const cut = link.slice(0, at % link.length);
        assert.throws(
          () => decodeInvite(cut),
          (error: Error) =>
            error.message.startsWith('invite-') && !(cut.length > 40 && error.message.includes(cut)),
        );
        const index = 'omerta://join/join1'.length + (at % (link.length - 'omerta://join/join1'.length));
        const other = link[index] === 'q' ? 'p' : 'q';
        assert.throws(() => decodeInvite(link.slice(0, index) + other + link.slice(index + 1)), /invite-/);
      }),
    );
  });
});

describe('a relay link', () => {
  it('is read back as the relay it was made of, and is no invite', () => {
    fc.assert(
      fc.property(bootstrap, (original) => {
        const link = encodeRelayLink(original);
        assert.deepEqual(decodeRelayLink(link), original);
        assert.throws(() => decodeInvite(link), /invite-scheme/);
        assert.throws(() => decodeRelayLink(link.replace('//relay/', '//join/')), /relay-link-scheme/);
      }),
    );
  });

  it('that holds more than a version and a relay is refused: a link has one reading', () => {
    const [one] = fc.sample(bootstrap, { numRuns: 1, seed: 1 });
    assert.ok(one !== undefined);
    const linkOf = (value: unknown): string =>
      `omerta://relay/${bech32m.encode('relay', bech32m.toWords(encodeCbor(value)), false)}`;
    assert.deepEqual(decodeRelayLink(linkOf([1, encodedBootstrap(one)])), one);
    for (const value of [[1, encodedBootstrap(one), 0], [1], 1])
      assert.throws(() => decodeRelayLink(linkOf(value)), /relay-link-version/);
  });

  it('cut short anywhere is refused', () => {
    fc.assert(
      fc.property(bootstrap, fc.nat(), (original, at) => {
        const link = encodeRelayLink(original);
        assert.throws(() => decodeRelayLink(link.slice(0, at % link.length)), /^CoreError: relay-link-/);
      }),
    );
  });
});

describe('what is derived from a network', () => {
  it('gives the same addresses to every member, inside the ranges of the protocol', () => {
    fc.assert(
      fc.property(exactly(16), exactly(32), exactly(32), (id, a, b) => {
        const one = overlayAddresses(nodePrimitives, id, a);
        const two = overlayAddresses(nodePrimitives, id, b);
        const six = [one, two].map(({ ipv6 }) => parseIp(ipv6) ?? new Uint8Array(0));
        assert.ok(six.every((ip) => ip.length === 16 && ip[0] === 0xfd && ip[6] === 0 && ip[7] === 0));
        assert.deepEqual(six[0]?.slice(0, 8), six[1]?.slice(0, 8), 'one /48, subnet 0');
        for (const { ipv4 } of [one, two]) {
          const ip = parseIp(ipv4) ?? new Uint8Array(0);
          assert.ok(isIPv4(ip) && ip[12] === 100 && (ip[13] ?? 0) >= 64 && (ip[13] ?? 0) <= 127, ipv4);
        }
      }),
    );
  });

  it('is what an independent computation gives', () => {
    // The expected values were computed by Python's hashlib and hmac from docs/protocol.md.
    const id = new Uint8Array(16).fill(1);
    const identity = new Uint8Array(32).fill(2);
    assert.deepEqual(overlayAddresses(nodePrimitives, id, identity), EXPECTED.overlay);
    for (const { round, ipv4 } of EXPECTED.rounds) {
      const { ipv6 } = EXPECTED.overlay;
      assert.deepEqual(overlayAddresses(nodePrimitives, id, identity, round), { ipv4, ipv6 });
    }
    const made: Network = { id, name: 'n', key: new Uint8Array(32).fill(3), bootstraps: [] };
    assert.equal(toHex(membershipKey(nodePrimitives, made).publicKey), EXPECTED.membershipKey);
    assert.equal(toHex(blindedNetworkId(nodePrimitives, made)), EXPECTED.blinded);
    assert.equal(toHex(networkPresharedKey(nodePrimitives, made)), EXPECTED.presharedKey);
    assert.equal(toHex(membershipProof(nodePrimitives, made, identity, id)), EXPECTED.proof);
  });

  it('a proof of membership is good for one prover, one verifier and one network only', () => {
    fc.assert(
      fc.property(exactly(32), exactly(32), exactly(32), exactly(32), (k1, k2, a, b) => {
        fc.pre(!sameBytes(k1, k2) && !sameBytes(a, b));
        const of = (key: Uint8Array): Network => ({ id: new Uint8Array(16), name: 'n', key, bootstraps: [] });
        const proofs = [
          membershipProof(nodePrimitives, of(k1), a, b),
          membershipProof(nodePrimitives, of(k1), b, a),
          membershipProof(nodePrimitives, of(k2), a, b),
        ].map(toHex);
        assert.equal(new Set(proofs).size, 3);
      }),
    );
  });

  it('the preshared key of several networks needs every one of their keys', () => {
    const keys = [1, 2, 3].map((fill) => new Uint8Array(32).fill(fill));
    const all = toHex(combinePresharedKeys(nodePrimitives, keys));
    assert.notEqual(all, toHex(combinePresharedKeys(nodePrimitives, keys.slice(0, 2))));
    assert.deepEqual(combinePresharedKeys(nodePrimitives, keys.slice(0, 1)), keys[0]);
  });
});

describe('an address has one canonical form', () => {
  const v4 = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255));
  const hex = (high: number, low: number): string => ((high << 8) | low).toString(16);

  it('a v4-mapped IPv6 address is the IPv4 address, however it is written', () => {
    fc.assert(
      fc.property(v4, fc.integer({ min: 1, max: 65535 }), ([a, b, c, d], port) => {
        const plain = parseSocketAddress(`${a}.${b}.${c}.${d}:${port}`);
        const forms = [
          `[::ffff:${a}.${b}.${c}.${d}]:${port}`,
          `[::ffff:${hex(a, b)}:${hex(c, d)}]:${port}`,
          `[0:0:0:0:0:FFFF:${hex(a, b)}:${hex(c, d)}]:${port}`,
          `[0000:0000:0000:0000:0000:ffff:${a}.${b}.${c}.${d}]:${port}`,
        ].map(parseSocketAddress);
        assert.ok(plain);
        for (const form of forms) assert.ok(form !== undefined && sameSocketAddress(form, plain));
      }),
    );
  });

  it('the other embeddings of IPv4 (compatible, 6to4, NAT64, Teredo) are different addresses', () => {
    fc.assert(
      fc.property(v4, ([a, b, c, d]) => {
        const plain = parseIp(`${a}.${b}.${c}.${d}`);
        assert.ok(plain);
        for (const form of [
          `::${hex(a, b)}:${hex(c, d)}`,
          `2002:${hex(a, b)}:${hex(c, d)}::`,
          `64:ff9b::${a}.${b}.${c}.${d}`,
          `2001:0:${hex(a, b)}:${hex(c, d)}::`,
        ]) {
          const other = parseIp(form);
          assert.ok(other !== undefined && compareBytes(other, plain) !== 0 && !isIPv4(other), form);
        }
      }),
    );
  });
});

const EXPECTED = {
  membershipKey: '31866acff529f6a9c01d6d62c126c4946cadeaa4591dcf3afd5e549da1a334fd',
  blinded: '257a6e86bb291989d699b0b3dbd0e021',
  overlay: { ipv4: '100.110.214.46', ipv6: 'fd55:78a2:d979:0:a567:94fa:321:7c11' },
  rounds: [
    { round: 1, ipv4: '100.71.91.132' },
    { round: 255, ipv4: '100.69.13.16' },
  ],
  presharedKey: '73a0726d4f0434b7aee496641c7edf070ef3145ebcff4a633aec8b5ea762dccf',
  proof: 'b6bcf30ce83a3574c6954100d9bb9964d3e1c65710d648eddc2d0610b7caae0f',
};
