import t from 'tap'
import { isAllowed, parsePattern, parsePatterns } from '../../proxy/allowed-daemons.js'

function allows(text: string, host: string, port = 54322): boolean {
  return isAllowed({ host, port }, parsePatterns(text))
}

t.test('a host without a port is on the port of daemons', async (t) => {
  t.ok(allows('host7.example.com', 'host7.example.com'))
  t.ok(allows('HOST7.example.com', 'host7.example.com'))
  t.notOk(allows('host7.example.com', 'host7.example.com', 443))
  t.ok(allows('host7.example.com:443', 'host7.example.com', 443))
  t.ok(allows('host7.example.com:*', 'host7.example.com', 1))
})

t.test('a star is any text, a dot only a dot', async (t) => {
  t.ok(allows('*.example.com', 'a.b.example.com'))
  t.notOk(allows('*.example.com', 'example.com'))
  t.notOk(allows('*.example.com', 'a.example.com.evil.org'))
  t.notOk(allows('*.example.com', 'aXexample.com'))
  t.ok(allows('host*.example.com', 'host12.example.com'))
  t.ok(allows('*', '10.0.0.5'))
})

t.test('several, separated by blanks or commas; none allows none', async (t) => {
  t.ok(allows('a, b:1  c', 'c'))
  t.ok(allows('a,b:1', 'b', 1))
  t.notOk(allows('', 'a'))
})

t.test('IPv6 addresses are compared, not their spelling', async (t) => {
  t.ok(allows('[fd00:0:0::1]', 'fd00::1'))
  t.ok(allows('[FD00::1]:99', 'fd00::1', 99))
  t.notOk(allows('[fd00::2]', 'fd00::1'))
})

t.test('a pattern that begins like an address is not for names', async (t) => {
  t.ok(allows('192.0.2.*', '192.0.2.7'))
  t.notOk(allows('192.0.2.*', '192.0.2.evil.test'))
  t.notOk(allows('192.0.2.*', '192.0.2.7.evil.test'))
  t.notOk(allows('192.0.2.*', '192.0.3.7'))
  t.notOk(allows('1*', '1.evil.test'))
  t.ok(allows('*.2.7', '192.0.2.7'))
  t.ok(allows('*.*', 'host.example.com'), 'without a digit it is not')
  t.ok(allows('192.0.2.*.example.com', '192.0.2.7.example.com'), 'nor with a letter')
})

t.test('what is no pattern is refused', async (t) => {
  for (const word of ['a:b', 'a:65536', 'http://a', 'fd00::1', 'a/24', 'a:', '[a', '[a]', '[1]']) {
    t.equal(parsePattern(word), undefined, word)
  }
})
