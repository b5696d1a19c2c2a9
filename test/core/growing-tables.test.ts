// Looks through the classes of the core: what can hold many is in the list of tables, or said to be fixed.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import ts from 'typescript';
import {
  ENGINE_TABLES,
  FIXED_FIELDS,
  GROWING_TABLES,
  growingTablesMarkdown,
} from '../../ts/core/node/growing-tables.js';
import { DEFAULT_RELAY_LIMITS } from '../../ts/core/relay/relay-limits.js';
import { packageRoot } from '../../ts/host/version.js';

const CORE = join(packageRoot(), 'ts/core');
/** Types of fields that hold many. What is made of them anywhere else lives no longer than a call. */
const COLLECTION = /\b(Map|Set|BoundedTable|TimerQueue|Counter|BinaryHeap|AddressClaims|OwnAddresses)\b|\[\]/;

function sources(): string[] {
  return readdirSync(CORE, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
}

/** Class fields that are made as something that holds many: `file#field`. */
function collections(file: string, text = readFileSync(join(CORE, file), 'utf8')): string[] {
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isPropertyDeclaration(node)) {
      const { initializer } = node;
      const type = node.type?.getText() ?? '';
      const made =
        initializer !== undefined &&
        ((ts.isNewExpression(initializer) && COLLECTION.test(initializer.expression.getText())) ||
          ts.isArrayLiteralExpression(initializer));
      // Made in the constructor: its type tells. What is only read here is another's.
      const given = initializer === undefined && /^(BoundedTable|Map|Set|TimerQueue)\b/.test(type);
      if (made || given) found.push(`${file}#${node.name.getText().replace('#', '')}`);
    }
    // What each entry of a table has of its own.
    if (ts.isPropertyAssignment(node) && ts.isNewExpression(node.initializer)) {
      if (COLLECTION.test(node.initializer.expression.getText()))
        found.push(`${file}#${node.name.getText()}`);
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true));
  return [...new Set(found)];
}

describe('what others make grow in the core', () => {
  const listed = GROWING_TABLES.flatMap(({ fields }) => fields);
  const found = sources().flatMap((file) => collections(file));

  it('is in the list of tables, or said to be fixed, field by field', () => {
    const missing = found.filter((field) => !listed.includes(field) && FIXED_FIELDS[field] === undefined);
    assert.deepEqual(missing, []);
  });

  it('is there under the names of the list, once', () => {
    const names = [...listed, ...Object.keys(FIXED_FIELDS)];
    assert.deepEqual(
      names.filter((field) => !found.includes(field)),
      [],
    );
    assert.equal(new Set(names).size, names.length);
  });

  it('has a cap, a share for each who pays that is no larger, and an end', () => {
    for (const { name, total, shares, ends, key } of GROWING_TABLES) {
      const most = total(DEFAULT_RELAY_LIMITS);
      const of = Object.values(shares(DEFAULT_RELAY_LIMITS));
      assert.ok(Number.isSafeInteger(most) && most > 0, name);
      assert.ok(of.length > 0 && of.every((share) => Number.isSafeInteger(share) && share > 0), name);
      assert.ok(
        of.every((share) => share <= most),
        name,
      );
      assert.ok(ends.length > 0 && key.length > 0, name);
    }
  });

  it('is kept in a table that turns down what is too much, in parts of entries of one, or behind a comparison', () => {
    const source = (field: string): string => readFileSync(join(CORE, field.split('#')[0] ?? ''), 'utf8');
    const isBounded = (field: string): boolean =>
      new RegExp(`#${field.split('#')[1] ?? ''}\\b[^;\\n]*BoundedTable<`).test(source(field));
    for (const { name, fields, bound } of GROWING_TABLES) {
      const [first = ''] = fields;
      if (bound === undefined) assert.ok(fields.some(isBounded), `${name}: no BoundedTable`);
      else if ('check' in bound) assert.ok(source(first).includes(bound.check), `${name}: ${bound.check}`);
      else {
        const followed = GROWING_TABLES.find((table) => table.name === bound.follows);
        assert.ok(followed?.fields.some(isBounded), `${name} follows ${bound.follows}`);
      }
    }
  });

  it('has the size in the engines that their sources say', () => {
    for (const { name, file, constant, total } of ENGINE_TABLES) {
      const source = readFileSync(join(packageRoot(), file), 'utf8');
      const [, number] = new RegExp(`\\b${constant}\\s*([\\d'_]+)`).exec(source) ?? [];
      assert.equal(Number(number?.replace(/['_]/g, '')), total, `${name}: ${file}, ${constant}`);
    }
  });

  it('is found where somebody adds one', () => {
    const text =
      'class A { readonly #a = new Map<string, number>(); #b: string[] = []; readonly #c = 1; f() { return { d: new Set() }; } }';
    assert.deepEqual(collections('x.ts', text), ['x.ts#a', 'x.ts#b', 'x.ts#d']);
  });

  it('is in the threat model as in the code', () => {
    const document = readFileSync(join(packageRoot(), 'docs/threat-model.md'), 'utf8');
    const [, table] = /<!-- tables that grow: .*-->\n([^]*?)\n<!-- end of/.exec(document) ?? [];
    assert.equal(table, growingTablesMarkdown(DEFAULT_RELAY_LIMITS), 'type: npm run docs');
  });
});
