#!/usr/bin/env python3
"""Computes wireguard.json from the WireGuard whitepaper (sections 5.3 - 5.4.7) with Python's hashlib,
hmac and the `cryptography` package, that is without a line or a library of the engine under test.

Run: python3 test/engine/vectors/generate-wireguard-vectors.py > test/engine/vectors/wireguard.json
"""

import hashlib
import hmac
import json
import struct

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def hash_(*parts):
    return hashlib.blake2s(b"".join(parts)).digest()


def mac(key, data):
    return hashlib.blake2s(data, key=key, digest_size=16).digest()


def hmac_(key, data):
    return hmac.new(key, data, hashlib.blake2s).digest()


def kdf(count, key, data):
    secret, keys, previous = hmac_(key, data), [], b""
    for i in range(1, count + 1):
        previous = hmac_(secret, previous + bytes([i]))
        keys.append(previous)
    return keys


def aead(key, counter, plain, associated):
    return ChaCha20Poly1305(key).encrypt(b"\0" * 4 + struct.pack("<Q", counter), plain, associated)


def hchacha20(key, nonce16):
    state = list(struct.unpack("<4I", b"expand 32-byte k") + struct.unpack("<8I", key) + struct.unpack("<4I", nonce16))

    def quarter(a, b, c, d):
        for x, y, z, r in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[x] = (state[x] + state[y]) & 0xFFFFFFFF
            v = state[z] ^ state[x]
            state[z] = ((v << r) | (v >> (32 - r))) & 0xFFFFFFFF

    for _ in range(10):
        for q in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                  (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            quarter(*q)
    return struct.pack("<8I", *(state[0:4] + state[12:16]))


def xaead(key, nonce24, plain, associated):
    return ChaCha20Poly1305(hchacha20(key, nonce24[:16])).encrypt(b"\0" * 4 + nonce24[16:], plain, associated)


def public(private):
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def dh(private, other):
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(other))


def seed(name):
    return hashlib.sha256(b"omerta wireguard vector " + name.encode()).digest()


initiator, responder = seed("initiator"), seed("responder")
initiator_ephemeral, responder_ephemeral = seed("initiator ephemeral"), seed("responder ephemeral")
psk = seed("preshared key")
initiator_index, responder_index = 0x01020304, 0xA0B0C0D0
timestamp = struct.pack(">QI", 0x400000000000000A + 1_700_000_000, 0x05000000)

construction = hash_(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")
identifier = hash_(construction, b"WireGuard v1 zx2c4 Jason@zx2c4.com")

# 5.4.2 First message
ck, h = construction, hash_(identifier, public(responder))
e = public(initiator_ephemeral)
(ck,) = kdf(1, ck, e)
h = hash_(h, e)
ck, k = kdf(2, ck, dh(initiator_ephemeral, public(responder)))
static = aead(k, 0, public(initiator), h)
h = hash_(h, static)
ck, k = kdf(2, ck, dh(initiator, public(responder)))
stamp = aead(k, 0, timestamp, h)
h = hash_(h, stamp)
initiation = struct.pack("<II", 1, initiator_index) + e + static + stamp
initiation += mac(hash_(b"mac1----", public(responder)), initiation)
initiation += b"\0" * 16

# 5.4.7 Cookie reply to it, and the same initiation with mac2
source = bytes.fromhex("00000000000000000000ffffc0000201") + struct.pack(">H", 51820)
secret, nonce = seed("cookie secret"), seed("cookie nonce")[:24]
cookie = mac(secret, source)
reply = struct.pack("<II", 3, initiator_index) + nonce
reply += xaead(hash_(b"cookie--", public(responder)), nonce, cookie, initiation[116:132])
with_mac2 = initiation[:132] + mac(cookie, initiation[:132])

# 5.4.3 Second message
e = public(responder_ephemeral)
(ck,) = kdf(1, ck, e)
h = hash_(h, e)
(ck,) = kdf(1, ck, dh(responder_ephemeral, public(initiator_ephemeral)))
(ck,) = kdf(1, ck, dh(responder_ephemeral, public(initiator)))
ck, t, k = kdf(3, ck, psk)
h = hash_(h, t)
empty = aead(k, 0, b"", h)
response = struct.pack("<III", 2, responder_index, initiator_index) + e + empty
response += mac(hash_(b"mac1----", public(initiator)), response)
response += b"\0" * 16

# 5.4.5, 5.4.6 Transport data from the initiator, counter 2^32 + 5
to_responder, to_initiator = kdf(2, ck, b"")
counter, payload = 2**32 + 5, b"\xc0\x02\x08\x00pingpong" + b"\0" * 4
transport = struct.pack("<IIQ", 4, responder_index, counter) + aead(to_responder, counter, payload, b"")

fields = dict(
    construction=construction, identifier=identifier,
    initiatorPrivate=initiator, initiatorPublic=public(initiator),
    responderPrivate=responder, responderPublic=public(responder),
    initiatorEphemeral=initiator_ephemeral, responderEphemeral=responder_ephemeral,
    presharedKey=psk, timestamp=timestamp, initiation=initiation, response=response,
    source=source, cookieSecret=secret, cookieNonce=nonce, cookieReply=reply, initiationWithMac2=with_mac2,
    initiatorSends=to_responder, responderSends=to_initiator, payload=payload, transport=transport,
)
print(json.dumps({
    "origin": "WireGuard whitepaper 5.3 - 5.4.7, computed by generate-wireguard-vectors.py (no engine code)",
    "initiatorIndex": initiator_index,
    "responderIndex": responder_index,
    "counter": str(counter),
    **{name: value.hex() for name, value in fields.items()},
}, indent=2))
