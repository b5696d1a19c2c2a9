// The configuration that --config names, or that of the state directory. Apart from the context, so that a
// command that asks a daemon does not load the schema.

import { loadConfig, type Config } from '../daemon/config/config.js';
import type { Context } from './context.js';

export class Configuration {
  #wasRead = false;

  constructor(readonly context: Context) {}

  /** A file that was read once must not be gone the next time: that would lift every limit in it. */
  read(): Config {
    const { configPath, isConfigNamed } = this.context;
    const presence = this.#wasRead ? 'read-before' : isConfigNamed ? 'named' : 'optional';
    const { config, read } = loadConfig(configPath, presence);
    this.#wasRead ||= read;
    return config;
  }
}
