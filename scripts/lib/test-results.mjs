// What became of the tests, from all runners together.

/** Collects outcomes; `print()` writes the skipped and failed ones and the last line. */
export class TestResults {
  passed = 0;
  failures = [];
  /** Reason → names. */
  skips = new Map();

  pass() {
    this.passed++;
  }

  fail(name) {
    this.failures.push(name);
  }

  skip(name, reason) {
    const names = this.skips.get(reason) ?? [];
    names.push(name);
    this.skips.set(reason, names);
  }

  get skipped() {
    return [...this.skips.values()].reduce((sum, names) => sum + names.length, 0);
  }

  /** 0 when something ran and nothing failed. */
  get exitCode() {
    return this.passed > 0 && this.failures.length === 0 ? 0 : 1;
  }

  print() {
    if (this.skips.size > 0) console.log('\nSkipped:');
    for (const [reason, names] of this.skips) {
      console.log(`  ${reason}`);
      for (const name of names) console.log(`    ${name}`);
    }
    if (this.failures.length > 0) console.log('\nFailed:');
    for (const name of this.failures) console.log(`  ${name}`);
    console.log(`\n${this.passed} passed, ${this.failures.length} failed, ${this.skipped} skipped`);
  }
}
