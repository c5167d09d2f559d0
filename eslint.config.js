import eslint from '@eslint/js'
import n from 'eslint-plugin-n'
import tseslint from 'typescript-eslint'

export default tseslint.config(
  { ignores: ['dist/', 'native/build/', '.tap/', '.dev/'] },
  eslint.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked],
    plugins: { n },
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      'n/prefer-node-protocol': 'error',
      'n/no-deprecated-api': 'error',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      // A test of headers and options reads computed names all the time.
      '@typescript-eslint/no-dynamic-delete': 'off',
    },
  },
  {
    // Arguments, signals and exit codes belong to the mains; everything else gets values.
    files: ['core', 'daemon', 'proxy', 'transfers', 'ctl', 'start'].map(
      (room) => `${room}/**/*.ts`,
    ),
    ignores: ['**/main.ts'],
    rules: {
      'no-restricted-properties': [
        'error',
        { object: 'process', property: 'argv' },
        { object: 'process', property: 'exit' },
        { object: 'process', property: 'exitCode' },
      ],
    },
  },
  {
    // fastify sends what an async handler returns, and answers what it throws; a plain one is not waited for.
    files: ['transfers/api/**/*.ts'],
    rules: { '@typescript-eslint/require-await': 'off' },
  },
  {
    files: ['test/**/*.ts', 'bench/**/*.ts'],
    rules: {
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/no-floating-promises': 'off',
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
)
