import { spawnSync } from 'node:child_process'
import { isDeepStrictEqual } from 'node:util'
import t from 'tap'
import { parseIni } from '../../../core/config/ini.js'

function values(text: string): Record<string, Record<string, string>> {
  const sections = Array.from(parseIni(text, 'f.conf'), ([name, entries]) => [
    name,
    Object.fromEntries(Array.from(entries, ([key, { value }]) => [key, value])),
  ])
  return Object.fromEntries(sections) as Record<string, Record<string, string>>
}

t.test('options are key = value or key: value, split at the first delimiter', async (t) => {
  t.strictSame(values('[a]\nx = 1\ny: 2\nz=a=b:c\nhost = ::\nempty =\n'), {
    a: { x: '1', y: '2', z: 'a=b:c', host: '::', empty: '' },
  })
})

t.test('option names are case insensitive, section names are not', async (t) => {
  t.strictSame(values('[a]\nKey = V\n[A]\nkey = w\n'), { a: { key: 'V' }, A: { key: 'w' } })
})

t.test(
  'a value is what is written: no inline comments, quotes, escapes, interpolation',
  async (t) => {
    const text = '[a]\nk = "x" # no comment ; none %(here)s \\n\nn = \0name\n'
    t.strictSame(values(text), { a: { k: '"x" # no comment ; none %(here)s \\n', n: '\0name' } })
  },
)

t.test(
  'deeper lines continue a value, comments inside are dropped, blank lines kept',
  async (t) => {
    t.strictSame(values('[a]\nk = 1\n  2\n # comment\n\n  3\n\n\nl = 4\n'), {
      a: { k: '1\n2\n\n3', l: '4' },
    })
    t.strictSame(values('[a]\n  k = 1\n  l = 2\n'), { a: { k: '1', l: '2' } })
  },
)

t.test('line ends of every system are understood', async (t) => {
  t.strictSame(values('[a]\r\nx = 1\r\ny = 2\rz = 3'), { a: { x: '1', y: '2', z: '3' } })
})

t.test('an entry tells its file and line', async (t) => {
  const entry = parseIni('# head\n[a]\n\nk = v\n', '/etc/x.conf').get('a')?.get('k')
  t.strictSame(entry, { value: 'v', file: '/etc/x.conf', line: 4 })
})

t.test('only [DEFAULT] may be opened twice in one file', async (t) => {
  t.strictSame(values('[DEFAULT]\na = 1\n[DEFAULT]\nb = 2\n'), { DEFAULT: { a: '1', b: '2' } })
  t.throws(() => values('[DEFAULT]\na = 1\n[DEFAULT]\na = 2\n'), { message: /f.conf:4: .*twice/ })
})

t.test('mistakes are errors that name file and line', async (t) => {
  const refused = (text: string, message: RegExp): void => {
    t.throws(() => values(text), { code: 'ERR_CONFIG', name: 'ConfigError', message })
  }
  refused('k = v\n', /^f.conf:1: an option outside of any \[section\]$/)
  refused('[a]\nb = 1\n[a]\n', /^f.conf:3: section \[a\] is given twice$/)
  refused('[a]\nk = 1\nK = 2\n', /^f.conf:3: option "k" is given twice/)
  refused('[a]\nnonsense\n', /^f.conf:2: neither \[section\], nor "key = value"$/)
  refused('[a]\n= v\n', /^f.conf:2: neither/)
})

const PYTHON = `
import configparser, json, sys
answers = []
for text in json.load(sys.stdin):
    parser = configparser.RawConfigParser()
    try:
        parser.read_file(text.splitlines(True))
        answer = {name: dict(parser._sections[name]) for name in parser.sections()}
        answer["DEFAULT"] = dict(parser.defaults())
    except configparser.Error: answer = "error"
    answers.append(answer)
print(json.dumps(answers))
`
const hasPython = spawnSync('python3', ['--version']).status === 0

t.test('random files are read as by Python', { skip: !hasPython && 'no python3' }, async (t) => {
  const pieces = ['[a]', '[b]', '[DEFAULT]', '[c]x', '[', 'k', 'K', 'l', 'm', ' = ', ':', '=', ' ']
  pieces.push('  ', '\t', '# c', ';', '1', 'v w', '"', '%', '\n', '\n', '\n', '\nk = ', '\n  ', ']')
  let seed = 7
  const random = (below: number): number => {
    seed = (seed * 1103515245 + 12345) % 2 ** 31
    return Math.floor((seed / 2 ** 31) * below)
  }
  const texts = Array.from({ length: 4000 }, () =>
    Array.from({ length: 3 + random(20) }, () => pieces[random(pieces.length)]).join(''),
  ).map((text, index) => (index % 2 ? `[a]\n${text}` : text))
  const { stdout } = spawnSync('python3', ['-c', PYTHON], {
    input: JSON.stringify(texts),
    encoding: 'utf8',
  })
  const expected = JSON.parse(stdout) as unknown[]
  t.equal(expected.length, texts.length)
  const ours = (text: string): unknown => {
    try {
      return { DEFAULT: {}, ...values(text) }
    } catch {
      return 'error'
    }
  }
  const wrong = texts.filter((text, index) => !isDeepStrictEqual(ours(text), expected[index]))
  t.strictSame(wrong, [])
  t.ok(expected.filter((answer) => answer !== 'error').length > 200, 'enough of them are valid')
})
