// WireGuard's way of writing keys: base64 of 32 bytes, 44 characters (wg(8)).

/** The key's 32 bytes; undefined when it is not one. */
export function parseWireguardKey(text: string): Uint8Array | undefined {
  if (!/^[A-Za-z0-9+/]{43}=$/.test(text)) return undefined;
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? new Uint8Array(bytes) : undefined;
}

export function formatWireguardKey(key: Uint8Array): string {
  return Buffer.from(key).toString('base64');
}
