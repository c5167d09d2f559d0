import t from 'tap'
import { boolean, choice, float, integer, socket, string } from '../../../core/config/schema.js'

const description = 'for the test'

t.test('booleans are the eight words, in any case', async (t) => {
  const { parse } = boolean({ default: true, description })
  for (const text of ['true', 'YES', 'On', '1']) t.equal(parse(text), true, text)
  for (const text of ['false', 'NO', 'Off', '0']) t.equal(parse(text), false, text)
  for (const text of ['', 'y', '2', 'truee']) t.equal(parse(text), undefined, text)
})

t.test('integers are decimal and inside their range', async (t) => {
  const option = integer({ default: 4, min: -4, max: 65535, multipleOf: 4, description })
  for (const [text, value] of Object.entries({ '4': 4, '+8': 8, '-4': -4, '-0': 0, '08': 8 })) {
    t.equal(option.parse(text), value, text)
  }
  for (const text of ['', '5', '-8', '65536', '4.0', '0x4', '4k', ' 4', '1e1']) {
    t.equal(option.parse(text), undefined, text)
  }
  t.equal(option.allowed, 'an integer, at least -4, at most 65535, a multiple of 4')
  const free = integer({ default: 0, description })
  t.equal(free.parse('9007199254740993'), undefined, 'not exact')
  t.equal(free.allowed, 'an integer')
})

t.test('floats have the usual forms', async (t) => {
  const { parse } = float({ default: 1, min: 0, description })
  for (const [text, value] of Object.entries({ '1': 1, '.5': 0.5, '2.': 2, '1e-3': 0.001 })) {
    t.equal(parse(text), value, text)
  }
  for (const text of ['', '.', '-1', 'nan', 'inf', '1e999']) t.equal(parse(text), undefined, text)
})

t.test('a choice is found in any case and comes out as listed', async (t) => {
  const option = choice({ of: ['unix', 'tcp'], default: 'unix', description })
  t.equal(option.parse('TCP'), 'tcp')
  t.equal(option.parse('udp'), undefined)
  t.equal(option.allowed, 'one of unix, tcp')
})

t.test('a string is taken as it is, unless the option objects', async (t) => {
  t.equal(string({ default: '', description }).parse('"x" '), '"x" ')
  const picky = string({ default: '', description, accept: (text) => text === 'a' })
  t.equal(picky.parse('b'), undefined)
})

t.test('sockets', async (t) => {
  const { parse } = socket({ default: '', description })

  t.test('a path stays a path', async (t) => {
    t.equal(parse('/run/ovirt-imageio/sock'), '/run/ovirt-imageio/sock')
    t.equal(parse('"/run/a b"'), '/run/a b')
    t.equal(parse('/run/\\0x'), '/run/\\0x')
  })

  t.test('@name, \\0name and a literal NUL are abstract', async (t) => {
    for (const text of ['@/org/x', '\\0/org/x', '\0/org/x', '"\\0/org/x"', '"@/org/x"']) {
      t.equal(parse(text), '\0/org/x', text)
    }
    t.equal(parse('@@x'), '\0@x', 'only the first @ means NUL')
  })

  t.test('empty is another abstract name each time', async (t) => {
    t.match(parse(''), /^\0imageio-[0-9a-f]{16}$/)
    t.not(parse(''), parse('""'))
  })

  t.test('names must fit sun_path, counted in bytes', async (t) => {
    t.equal(parse('/' + 'x'.repeat(106))?.length, 107)
    t.equal(parse('/' + 'x'.repeat(107)), undefined)
    t.equal(parse('@' + 'x'.repeat(107))?.length, 108)
    t.equal(parse('@' + 'x'.repeat(108)), undefined)
    t.equal(parse('@' + 'é'.repeat(54)), undefined)
  })

  t.test('no name, a NUL inside and relative paths are refused', async (t) => {
    for (const text of ['@', '\\0', '\0', '/a\0b', '@a\0b', 'sock', './sock']) {
      t.equal(parse(text), undefined, text)
    }
  })
})
