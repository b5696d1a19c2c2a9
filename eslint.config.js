import js from '@eslint/js';
import tseslint from 'typescript-eslint';

// The sans-IO core gets time, randomness and datagrams as arguments. Whatever could reach around
// that is refused here, so that one core runs in the daemon and in the simulator alike.
const impureGlobals = [
  'Date',
  'performance',
  'setTimeout',
  'setInterval',
  'setImmediate',
  'clearTimeout',
  'clearInterval',
  'clearImmediate',
  'queueMicrotask',
  'process',
  'Buffer',
  'crypto',
  'fetch',
  'WebSocket',
  'console',
  'globalThis',
  'require',
  'navigator',
].map((name) => ({ name, message: 'The core is sans-IO: take it as an argument (ts/core/runtime/io.ts).' }));

export default tseslint.config(
  { ignores: ['dist/', 'build/', 'node_modules/', 'wasm/', 'prebuilds/', '.cache/'] },
  js.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [...tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      // node:test's describe/it return promises that the runner itself awaits.
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: [
            { from: 'package', package: 'node:test', name: ['test', 'it', 'describe', 'suite'] },
          ],
        },
      ],
    },
  },
  {
    files: ['ts/core/**/*.ts', 'ts/wire/**/*.ts', 'ts/contract/**/*.ts'],
    rules: {
      'no-restricted-globals': ['error', ...impureGlobals],
      'no-restricted-properties': [
        'error',
        { object: 'Math', property: 'random', message: 'The core is sans-IO: use step.random.' },
      ],
      'no-restricted-imports': [
        'error',
        {
          patterns: [
            {
              group: [
                'node:*',
                'fs',
                'net',
                'dgram',
                'os',
                'timers*',
                'crypto',
                'worker_threads',
                'child_process',
              ],
              message: 'The core is sans-IO: no Node module may be imported.',
            },
            {
              group: [
                '**/daemon/**',
                '**/cli/**',
                '**/lab/**',
                '**/engine/**',
                '**/status/**',
                '**/host/**',
                'pino',
                'prom-client',
                'libsodium-wrappers',
              ],
              message: 'The core knows no shell: effects go out as data (ts/core/runtime/io.ts).',
            },
          ],
        },
      ],
      'no-restricted-syntax': [
        'error',
        { selector: 'ImportExpression', message: 'The core is sans-IO: no dynamic import.' },
        { selector: 'AwaitExpression', message: 'The core never waits: return effects and a deadline.' },
      ],
    },
  },
  {
    files: ['**/*.mjs', '*.js', 'bin/*'],
    languageOptions: {
      globals: {
        process: 'readonly',
        console: 'readonly',
        Buffer: 'readonly',
        setTimeout: 'readonly',
        URL: 'readonly',
      },
    },
  },
);
