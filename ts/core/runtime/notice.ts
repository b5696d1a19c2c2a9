/** Things a person or a log may want to know. */
export interface Notice {
  readonly level: 'debug' | 'info' | 'warn';
  /** Stable, kebab-case: `bootstrap-registered`, `circuit-established`, … */
  readonly event: string;
  readonly fields: Readonly<Record<string, string | number | boolean>>;
}
