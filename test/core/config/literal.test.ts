import t from 'tap'
import { parseLiteral } from '../../../core/config/literal.js'

t.test('constants, numbers and strings', async (t) => {
  t.equal(parseLiteral('None'), null)
  t.equal(parseLiteral('True'), true)
  t.equal(parseLiteral(' -20_971_520 '), -20971520)
  t.equal(parseLiteral(`'it\\'s'`), `it's`)
  t.equal(parseLiteral('"a\\\\b\\n\\q"'), 'a\\b\n\\q')
  t.equal(parseLiteral('""'), '')
})

t.test('products of integers, as sizes are often written', async (t) => {
  t.equal(parseLiteral('20 * 1024*1024'), 20971520)
  t.strictSame(parseLiteral('("/x", "a", 2 * 3)'), ['/x', 'a', 6])
  t.equal(parseLiteral('2 * "a"'), undefined)
  t.equal(parseLiteral('2 *'), undefined)
})

t.test('one item in parentheses is a tuple only with a comma', async (t) => {
  t.strictSame(parseLiteral('("/x",)'), ['/x'])
  t.equal(parseLiteral('("/x")'), '/x')
  t.strictSame(parseLiteral('()'), [])
  t.strictSame(parseLiteral('((1,))'), [1])
  t.strictSame(parseLiteral('(1, [2], None,)'), [1, [2], null])
})

t.test('dicts keep keys of every kind', async (t) => {
  t.strictSame(
    parseLiteral('{"maxBytes": 1, 2: (), "__proto__": {},}'),
    new Map<unknown, unknown>([
      ['maxBytes', 1],
      [2, []],
      ['__proto__', new Map()],
    ]),
  )
})

t.test('anything else is refused', async (t) => {
  const texts = ['', 'sys.stderr', '1 2', '(1', '1)', '(,)', '{1}', '{1:}', '[1 2]', "'a", '1.5']
  for (const text of [...texts, '__import__("os")', '(1,,)', '{', '* 2', 'b"x"']) {
    t.equal(parseLiteral(text), undefined, text)
  }
})
