import { execFileSync } from 'node:child_process'
import t from 'tap'
import { shellLine, shellQuote } from '../../start/shell.js'

t.test('plain words stay as they are', async (t) => {
  for (const word of ['curl', '--cacert', '/a/b-c_d.pem', 'https://127.0.0.1:1/images/a']) {
    t.equal(shellQuote(word), word)
  }
})

t.test('a shell reads back what was quoted', async (t) => {
  const words = [
    'a b',
    "it's",
    '"',
    '$HOME',
    '`id`',
    'a\\b',
    '*',
    '',
    '#x',
    'a;b',
    '{"op":"zero"}',
    '~',
    'é',
  ]
  const printed = execFileSync('sh', ['-c', shellLine('printf', '%s\\n', ...words)])
  t.equal(printed.toString(), words.map((word) => `${word}\n`).join(''))
})
