// Files of this tree that comments and documents name: each is there under that name, and has the functions
// docs/architecture.md says a packet meets in it. Whoever moves a file finds here who tells others where it was.

import { readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { root } from './paths.mjs';
import { filesUnder } from './stamp.mjs';

const CODE = ['ts', 'native', 'xdp', 'wasm', 'test', 'bench', 'scripts'];
const DOCUMENTS = ['docs', 'README.md', 'examples'];

/** Of others: systems' headers, Linux' sources, the papers' vectors. */
const FOREIGN = /^(?:linux|sys|net|netinet|bpf|drivers|include|valgrind)\/|^(?:vmlinux|vectors)\.h$/;
/** Names that stand for any. */
const PLACEHOLDER = /[A-Z]{3}|(?:^|\/)\w\.ts$|^folder\//;

const NAME = /(?<![\w.*/-])[\w-][\w./-]*\.(?:cc|h|bpf\.c|ts|mjs)\b(?!\.\w)/g;
/** In a line of a drawing: `folder/file.cc first, Class::second`, and further files after a comma. */
const FUNCTIONS = /([\w./-]+\.(?:cc|h|c|ts)) ((?:[#\w:]+, )*[#\w:]+)(?=,|$)/g;

const commentsOf = (line) =>
  /^\s*#\s*include/.test(line) ? '' : (/(?:\/\/|\/\*|^\s*\*)(.*)$/.exec(line)?.[1] ?? '');

/** What a document's or a comment's lines name that is not in `files`, and functions that are not in them. */
export function misnamed(name, text, files, read) {
  const isDocument = name.endsWith('.md');
  const find = (path) => files.find((file) => file === path || file.endsWith(`/${path}`));
  return text.split('\n').flatMap((line, index) => {
    const at = `${name}:${index + 1}`;
    const named = [...(isDocument ? line : commentsOf(line)).matchAll(NAME)].map(([path]) => path);
    const gone = named.filter(
      (path) => !FOREIGN.test(path) && !PLACEHOLDER.test(path) && find(path) === undefined,
    );
    const missing = (isDocument ? [...line.matchAll(FUNCTIONS)] : []).flatMap(([, path, functions]) => {
      const file = find(path);
      const has = (word) => file === undefined || read(file).includes(word.split('::').at(-1));
      return functions.split(', ').flatMap((word) => (has(word) ? [] : [`${at}: ${file} has no ${word}`]));
    });
    return [...gone.map((path) => `${at}: ${path} is not in this tree`), ...missing];
  });
}

/** What comments and documents name in vain, one line each. */
export function namedFileComplaints() {
  const here = (file) => relative(root, file);
  const read = (file) => readFileSync(join(root, file), 'utf8');
  const code = filesUnder(CODE, (file) => /\.(?:cc|h|c|ts|mjs)$/.test(file)).map(here);
  const documents = filesUnder(DOCUMENTS, (file) => file.endsWith('.md')).map(here);
  const all = [...code, ...filesUnder(DOCUMENTS).map(here)];
  return [...code, ...documents].flatMap((file) => misnamed(file, read(file), all, read));
}
