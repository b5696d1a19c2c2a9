// The omerta command.

import { run } from './program.js';

const exitCode = await run(process.argv);
// A command may have set its own: doctor reports findings without failing.
if (exitCode !== 0) process.exitCode = exitCode;
