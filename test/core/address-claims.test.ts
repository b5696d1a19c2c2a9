import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AddressClaims, type Claim } from '../../ts/core/members/address-claims.js';
import { encodeCbor } from '../../ts/core/protocol/cbor.js';
import { toHex } from '../../ts/wire/bytes.js';
import { bytes, turn, WALL_CLOCK } from './fixtures.js';

const ADDRESS = '100.64.1.2';

describe('who held an overlay address before this node was restarted', () => {
  const holder = bytes(32);
  const claim = (identity: Uint8Array, network: string, heldSince: number): Claim => ({
    identity,
    network,
    heldSince: () => heldSince,
    since: 0,
  });

  function restored(): AddressClaims {
    const claims = new AddressClaims(bytes(32), () => false, 16);
    const stored = encodeCbor([holder, WALL_CLOCK / 1000 + 3600]);
    claims.restore(new Map([[`node/holder/${ADDRESS}`, stored]]), turn());
    return claims;
  }

  it('has it until his record is read again, however many of another network claim it meanwhile', () => {
    const claims = restored();
    for (const heldSince of [1, 2]) {
      claims.put(ADDRESS, claim(bytes(32), 'other', heldSince));
      assert.equal(toHex(claims.holder(ADDRESS) ?? bytes(1)), toHex(holder));
    }
    claims.put(ADDRESS, claim(holder, 'home', 1_700_000_000));
    assert.equal(toHex(claims.holder(ADDRESS) ?? bytes(1)), toHex(holder));
  });

  it('gives way to whom the bootstraps of his network vouch for since longer, once he is back', () => {
    const claims = restored();
    const older = bytes(32);
    claims.put(ADDRESS, claim(older, 'home', 1_600_000_000));
    claims.put(ADDRESS, claim(holder, 'home', 1_700_000_000));
    assert.equal(toHex(claims.holder(ADDRESS) ?? bytes(1)), toHex(older));
  });
});
