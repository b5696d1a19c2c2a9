/**
 * Waits (ms) after each handshake that a new path is tried with. WireGuard's own repetition comes
 * every 5 s; a path just set up is known to be there, so what is lost on it is asked for sooner.
 */
export const HANDSHAKE_WAITS_MS: readonly number[] = [400, 600, 1000, 1500, 2500];
