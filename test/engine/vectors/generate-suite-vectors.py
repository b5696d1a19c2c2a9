#!/usr/bin/env python3
"""Computes suites.json from docs/protocol.md ("Suites"), NIST SP 800-38D, FIPS 197 and RFC 8439 with
Python's hashlib and hmac, an AES-256-GCM written out here and the `cryptography` package's
ChaCha20-Poly1305, that is without a line or a library of the engine under test.

Run: python3 test/engine/vectors/generate-suite-vectors.py > test/engine/vectors/suites.json
"""

import hashlib
import hmac
import json
import struct

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305


def hmac_(key, data):
    return hmac.new(key, data, hashlib.blake2s).digest()


def kdf(count, key, data):
    secret, keys, previous = hmac_(key, data), [], b""
    for i in range(1, count + 1):
        previous = hmac_(secret, previous + bytes([i]))
        keys.append(previous)
    return keys


# AES-256 (FIPS 197), encryption only: all that GCM needs.
def times2(a):
    return (a << 1) ^ (0x11B if a & 0x80 else 0)


def s_box():
    # 3 generates the field's multiplicative group; the inverse of 3^i is 3^(255 - i).
    power, value = [], 1
    for _ in range(255):
        power.append(value)
        value ^= times2(value)
    box = [0] * 256
    for i in range(256):
        inverse = 0 if i == 0 else power[(255 - power.index(i)) % 255]
        b = inverse
        for shift in range(1, 5):
            b ^= ((inverse << shift) | (inverse >> (8 - shift))) & 0xFF
        box[i] = b ^ 0x63
    return box


SBOX = s_box()


def expand(key):
    words, rcon = [list(key[i:i + 4]) for i in range(0, 32, 4)], 1
    for i in range(8, 60):
        word = list(words[i - 1])
        if i % 8 == 0:
            word = [SBOX[b] for b in word[1:] + word[:1]]
            word[0] ^= rcon
            rcon = times2(rcon)
        elif i % 8 == 4:
            word = [SBOX[b] for b in word]
        words.append([a ^ b for a, b in zip(words[i - 8], word)])
    return [sum(words[i:i + 4], []) for i in range(0, 60, 4)]


def encrypt_block(rounds, block):
    state = [a ^ b for a, b in zip(block, rounds[0])]
    for number, key in enumerate(rounds[1:], 1):
        state = [SBOX[b] for b in state]
        state = [state[(i + 4 * (i % 4)) % 16] for i in range(16)]
        if number < 14:
            mixed = []
            for c in range(0, 16, 4):
                column = state[c:c + 4]
                for r in range(4):
                    a, b = column[r], column[(r + 1) % 4]
                    mixed.append(times2(a) ^ times2(b) ^ b ^ column[(r + 2) % 4] ^ column[(r + 3) % 4])
            state = mixed
        state = [a ^ b for a, b in zip(state, key)]
    return bytes(state)


def multiply(x, y):
    # SP 800-38D 6.3: bit 0 is the leftmost.
    z, v = 0, y
    for i in range(128):
        if x >> (127 - i) & 1:
            z ^= v
        v = (v >> 1) ^ (0xE1 << 120 if v & 1 else 0)
    return z


def gcm(key, nonce, plain, associated=b""):
    rounds = expand(key)
    h = int.from_bytes(encrypt_block(rounds, bytes(16)), "big")
    sealed = b""
    for i in range(0, len(plain), 16):
        stream = encrypt_block(rounds, nonce + struct.pack(">I", 2 + i // 16))
        sealed += bytes(a ^ b for a, b in zip(plain[i:i + 16], stream))
    hashed = 0
    for part in (associated, sealed):
        for i in range(0, len(part), 16):
            hashed = multiply(hashed ^ int.from_bytes(part[i:i + 16].ljust(16, b"\0"), "big"), h)
    hashed = multiply(hashed ^ (len(associated) * 8 << 64 | len(sealed) * 8), h)
    mask = encrypt_block(rounds, nonce + struct.pack(">I", 1))
    return sealed + (hashed ^ int.from_bytes(mask, "big")).to_bytes(16, "big")


# McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B, test case 16: this GCM is GCM.
CASE_16 = gcm(
    bytes.fromhex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"),
    bytes.fromhex("cafebabefacedbaddecaf888"),
    bytes.fromhex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
                  "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"),
    bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
)
assert CASE_16.hex() == (
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
    "76fc6ece0f4e1768cddf8853bb2d551b"), CASE_16.hex()


def seed(name):
    return hashlib.sha256(b"omerta suite vector " + name.encode()).digest()


def nonce(counter):
    return b"\0" * 4 + struct.pack("<Q", counter)


def offer(suites, have, index, window):
    return struct.pack("<BBHBBHII", 0xC0, 4, 12, suites, have, 0, index, window)


chaining_key = seed("chaining key")
(secret,) = kdf(1, chaining_key, b"omerta suite secret v1")
initiators, responders = offer(3, 0, 0x01020304, 65472), offer(3, 1, 0xA0B0C0D0, 8128)
said = initiators[4:] + responders[4:5] + b"\0" + responders[6:]

suites = []
for number, name in ((0, "ChaCha20-Poly1305"), (1, "AES-256-GCM")):
    initiator_sends, responder_sends = kdf(2, secret, bytes([number]) + said)
    packets = []
    for counter, size in ((0, 0), (1, 1), (2, 16), (255, 64), (2**32 + 5, 100), (2**63, 1420)):
        plain = (seed(f"text {size}") * 45)[:size]
        sealed = (gcm if number == 1 else lambda k, n, p: ChaCha20Poly1305(k).encrypt(n, p, b""))(
            initiator_sends, nonce(counter), plain)
        packets.append({"counter": str(counter), "text": plain.hex(), "sealed": sealed.hex()})
    suites.append({"number": number, "name": name, "initiatorSends": initiator_sends.hex(),
                   "responderSends": responder_sends.hex(), "packets": packets})

print(json.dumps({
    "origin": "docs/protocol.md, Suites, computed by generate-suite-vectors.py (no engine code)",
    "chainingKey": chaining_key.hex(),
    "suiteSecret": secret.hex(),
    "initiatorsOffer": initiators.hex(),
    "respondersOffer": responders.hex(),
    "proofs": [(struct.pack("<BBHB", 0xC0, 5, 1, state) + bytes(11)).hex() for state in range(3)],
    "suites": suites,
}, indent=2))
