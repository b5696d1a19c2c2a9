// The samples in what a benchmark prints with --json, whichever benchmark it was: each by a name that says where it
// stands in the report, so that two reports can be laid beside each other.

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** Names, and one value for each round. */
export type Series = ReadonlyMap<string, readonly number[]>;

const SEPARATOR = ' · ';

const isNumber = (value: Json | undefined): value is number => typeof value === 'number';

/** @throws SyntaxError when it is no JSON */
export function seriesOf(text: string): Series {
  const series = new Map<string, number[]>();
  collect(JSON.parse(text) as Json, [], series);
  return series;
}

function collect(value: Json, path: readonly string[], into: Map<string, number[]>): void {
  if (value === null || typeof value !== 'object') return;
  if (!isList(value)) {
    for (const [key, inner] of Object.entries(value)) collect(inner, [...path, key], into);
    return;
  }
  if (value.length > 0 && value.every(isNumber)) {
    into.set(path.join(SEPARATOR), [...value]);
    return;
  }
  for (const each of value) {
    if (each === null || typeof each !== 'object' || isList(each)) continue;
    const name = nameOf(each);
    // Without a name of its own it is one round of what the list is of.
    if (name === undefined) addRound(each, path, into);
    else collect(each, [...path, name], into);
  }
}

const isList = (value: Json): value is readonly Json[] => Array.isArray(value);

/** What tells an entry of a list from the others: its words, and its numbers where it has words. */
function nameOf(entry: { readonly [key: string]: Json }): string | undefined {
  const id = entry.id ?? entry.name;
  if (typeof id === 'string') return id;
  const values = Object.values(entry);
  if (!values.some((value) => typeof value === 'string')) return undefined;
  return values.filter((value) => typeof value === 'string' || isNumber(value)).join(' ');
}

function addRound(
  round: { readonly [key: string]: Json },
  path: readonly string[],
  into: Map<string, number[]>,
): void {
  for (const [key, value] of Object.entries(round)) {
    if (!isNumber(value)) continue;
    const name = [...path, key].join(SEPARATOR);
    into.set(name, [...(into.get(name) ?? []), value]);
  }
}
