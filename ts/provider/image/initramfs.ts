// An initial RAM file system: the root a kernel boots into (Linux Documentation/driver-api/early-userspace/
// buffer-format.rst, "newc"). Each entry is a header of 6 + 13 × 8 hexadecimal digits, the name, and
// the content, the last two filled up to a multiple of four.

export interface FileEntry {
  readonly path: string;
  readonly content: Uint8Array | string;
  /** Permissions, e.g. 0o755; `symlink`: the content is where it leads. */
  readonly mode: number | 'symlink';
}

const REGULAR = 0o100000;
const DIRECTORY = 0o040000;
const CHARACTER_DEVICE = 0o020000;
const SYMLINK = 0o120777;

type Device = readonly [major: number, minor: number];

function entry(inode: number, path: string, mode: number, content: Uint8Array, device: Device): Buffer {
  const name = Buffer.from(`${path}\0`);
  const directory = (mode & 0o170000) === DIRECTORY;
  const fields = [inode, mode, 0, 0, directory ? 2 : 1, 0, content.length, 0, 0, ...device, name.length, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`;
  const filled = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
  return Buffer.concat([filled(Buffer.concat([Buffer.from(header), name])), filled(Buffer.from(content))]);
}

/** An archive of these files, the folders they are in, and the console's device: the same bytes for the same files. */
export function initramfs(files: readonly FileEntry[]): Buffer {
  const none = new Uint8Array();
  const folders = new Set(['dev']);
  for (const { path } of files) {
    const parts = path.split('/');
    for (let depth = 1; depth < parts.length; depth++) folders.add(parts.slice(0, depth).join('/'));
  }
  let inode = 0;
  const add = (path: string, mode: number, content: Uint8Array = none, device: Device = [0, 0]): Buffer =>
    entry(++inode, path, mode, content, device);
  return Buffer.concat([
    ...[...folders].sort().map((path) => add(path, DIRECTORY | 0o755)),
    add('dev/console', CHARACTER_DEVICE | 0o600, none, [5, 1]),
    ...files.map(({ path, content, mode }) =>
      add(
        path,
        mode === 'symlink' ? SYMLINK : REGULAR | mode,
        typeof content === 'string' ? Buffer.from(content) : content,
      ),
    ),
    add('TRAILER!!!', 0),
  ]);
}
