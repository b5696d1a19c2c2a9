// WireGuard's times and limits (whitepaper 6.1, table of constants). Times in milliseconds. The native
// engine's are in native/session/constants.h; test/wire/session-constants.test.ts holds the two together.

export const REKEY_AFTER_TIME = 120_000;
export const REJECT_AFTER_TIME = 180_000;
export const REKEY_ATTEMPT_TIME = 90_000;
export const REKEY_TIMEOUT = 5_000;
export const KEEPALIVE_TIMEOUT = 10_000;
/** Greatest random addition to handshake retries, so that two peers do not keep colliding. */
export const REKEY_TIMEOUT_JITTER = 333;
/** An initiator that only receives asks for a new key this late, once per key. */
export const REKEY_ON_RECEIVE_TIME = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT;
/** Data was sent and nothing came back for so long: a new handshake. */
export const NEW_HANDSHAKE_TIMEOUT = KEEPALIVE_TIMEOUT + REKEY_TIMEOUT;
/** All key material of a silent peer is erased. */
export const ZERO_KEYS_TIME = 3 * REJECT_AFTER_TIME;

export const REKEY_AFTER_MESSAGES = 2n ** 60n;
export const REJECT_AFTER_MESSAGES = 2n ** 64n - 2n ** 13n - 1n;

/**
 * Least distance between two initiations of one peer, either way (50 a second). Timestamps are whitened to
 * steps of 16.8 ms: a second one sooner would look like a replay.
 */
export const INITIATION_INTERVAL = 20;

export const COOKIE_SECRET_LIFETIME = 120_000;
/** 5 s less than the secret lives: a cookie in flight is still good on arrival. */
export const COOKIE_LIFETIME = COOKIE_SECRET_LIFETIME - 5_000;

/** For so long after too many handshakes came, every sender has to prove its address by a cookie. */
export const UNDER_LOAD_TIME = 1_000;
/** Meanwhile, handshakes of one prefix whose address is proven (Linux drivers/net/wireguard/ratelimiter.c). */
export const SOURCE_HANDSHAKES_PER_SECOND = 20;
export const SOURCE_HANDSHAKE_BURST = 5;

/** Control frames of one peer that reach the control plane a second; twice as many at once (docs/protocol.md). */
export const CONTROL_FRAMES_PER_SECOND = 200;

/** Payloads kept per peer while no key is ready; the oldest gives way. */
export const MAX_STAGED = 128;
/** How often a peer without an endpoint may ask the control plane for a path. */
export const PATH_NEEDED_INTERVAL = 1_000;
/** How often the control plane is told that a peer has moved; what is told says where it is by then. */
export const ENDPOINT_INTERVAL = 250;
