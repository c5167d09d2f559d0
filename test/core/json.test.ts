import t from 'tap'
import { parseExactJson, stringifyJson, toJson } from '../../core/json.js'

const parse = (text: string): unknown => parseExactJson(Buffer.from(text))

t.test('integers keep all their digits', async (t) => {
  t.equal(parse('9007199254740991'), 9007199254740991)
  t.equal(parse('9007199254740992'), 9007199254740992n)
  t.equal(parse('18446744073709551616'), 2n ** 64n)
  t.equal(parse('-18446744073709551616'), -(2n ** 64n))
  t.strictSame(parse('{"size": 18446744073709551615, "list": [9007199254740993]}'), {
    size: 2n ** 64n - 1n,
    list: [9007199254740993n],
  })
})

t.test('numbers that are not written as integers stay numbers', async (t) => {
  t.equal(parse('1.5'), 1.5)
  t.equal(parse('1e300'), 1e300)
  t.equal(parse('1e3'), 1000)
  t.equal(parse('"9007199254740993"'), '9007199254740993')
})

t.test('what came in goes out with the same digits', async (t) => {
  const text = '{"size":18446744073709551616,"ops":["read"],"part":1.5,"none":null}'
  t.equal(toJson(parse(text)), text)
})

t.test('text outside of ASCII is escaped, and the line ends', async (t) => {
  t.equal(
    stringifyJson({ name: 'ä\u007f€😀\u0000' }),
    '{"name":"\\u00e4\\u007f\\u20ac\\ud83d\\ude00\\u0000"}\n',
  )
  t.equal(stringifyJson([]), '[]\n')
  t.equal(toJson({ name: 'ä' }), '{"name":"ä"}')
})

t.test('what is written can be read again', async (t) => {
  const value = { text: '"\\\n\u2028é😀', size: 2n ** 64n, list: [1, -2, true] }
  t.strictSame(parse(stringifyJson(value)), value)
})

t.test('what is not JSON is a SyntaxError', async (t) => {
  for (const text of ['', ' ', '{', '{"a":1,}', "{'a':1}", 'NaN', '01', '1 2', '\ufeff\ufeff1']) {
    t.throws(() => parse(text), SyntaxError, JSON.stringify(text))
  }
})

t.test('what is not UTF-8 is a SyntaxError', async (t) => {
  t.throws(() => parseExactJson(Buffer.from([0x22, 0xff, 0x22])), SyntaxError)
  t.throws(() => parseExactJson(Buffer.from([0x22, 0xc3])), SyntaxError)
})

t.test('what is nested too deeply is a SyntaxError or a value, never another error', async (t) => {
  for (const depth of [10, 10_000, 32_000]) {
    try {
      parse('['.repeat(depth) + ']'.repeat(depth))
    } catch (error) {
      t.ok(error instanceof SyntaxError)
    }
  }
})

t.test('a key named __proto__ changes no prototype', async (t) => {
  const value = parse('{"__proto__": {"size": 1}}') as Record<string, unknown>
  t.equal(Object.getPrototypeOf(value), Object.prototype)
  t.equal(value['size'], undefined)
})
