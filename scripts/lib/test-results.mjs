// What became of the tests, from all runners together.

/** Of what a failed test said: the rest is where it ran. */
const LINES_OF_A_CAUSE = 12;

/** Collects outcomes; `print()` writes the skipped and failed ones and the last line. */
export class TestResults {
  passed = 0;
  failures = [];
  /** What those of `failures` said that said something, by name. */
  causes = new Map();
  /** Reason → names. */
  skips = new Map();

  pass() {
    this.passed++;
  }

  /** @param cause what it said: the first lines are shown beside the name */
  fail(name, cause = '') {
    this.failures.push(name);
    if (cause !== '') this.causes.set(name, cause);
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
    for (const name of this.failures) {
      console.log(`  ${name}`);
      const lines = this.causes.get(name)?.split('\n') ?? [];
      for (const line of lines.slice(0, LINES_OF_A_CAUSE)) console.log(`    ${line}`);
    }
    console.log(`\n${this.passed} passed, ${this.failures.length} failed, ${this.skipped} skipped`);
  }
}
