import t from 'tap'
import { parseDictionary } from '../../../core/http/structured-fields.js'

const parse = (text: string) => {
  const members = parseDictionary(text)
  return members === undefined ? undefined : [...members]
}

t.test('bytes and numbers have values, other types have none', async (t) => {
  t.strictSame(parse('a=:aGVsbG8=:, b=5, c=-1.5'), [
    ['a', Buffer.from('hello')],
    ['b', 5],
    ['c', -1.5],
  ])
  const others = 'a, b=?0, c="x, y\\"", d=token/x, e=(1 "two";q=1 :aa==:);p, f=@1659578233, g=()'
  t.strictSame(
    parse(others),
    ['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((name) => [name, undefined]),
  )
})

t.test('blanks, parameters, repetition', async (t) => {
  t.strictSame(parse(' a=1 \t,\t b=2;x;y="z"; w=:aa==: '), [
    ['a', 1],
    ['b', 2],
  ])
  t.strictSame(parse('a=1,b=2,a=3'), [
    ['a', 3],
    ['b', 2],
  ])
  t.strictSame(parse(''), [])
  t.strictSame(parse('a=::'), [['a', Buffer.alloc(0)]])
})

t.test('what is malformed is nothing', async (t) => {
  for (const text of [
    ...['a=', 'a=1,', ',', ',a', 'A=1', '1=1', 'a =1', 'a= 1', 'a==1', 'a=1 b=2', 'a=1;', 'a=1;='],
    ...[
      'a=:aGVsbG8=',
      'a=:a b:',
      'a=:-_:',
      'a="x',
      'a=(1',
      'a=(1,2)',
      'a=("x"y)',
      'a=1.',
      'a=1.2345',
    ],
    ...['a=1234567890123456', 'a=ü', 'sha-256=abc=', 'a=?2', 'a=\u0000'],
  ]) {
    t.equal(parse(text), undefined, text)
  }
})

t.test('a long field takes no time', async (t) => {
  const start = performance.now()
  parse(`a=(${' '.repeat(16_000)}`)
  parse('a=1 '.repeat(4000))
  parse(`a="${'\\"'.repeat(8000)}`)
  parse(`a=:${'='.repeat(16_000)}`)
  t.ok(performance.now() - start < 500)
})
