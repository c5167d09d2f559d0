import t from 'tap'
import { parsePatterns } from '../../proxy/allowed-daemons.js'
import { normalizeDaemonUrl, parseDaemonUrl } from '../../proxy/daemon-url.js'

const rules = { allowed: parsePatterns('*:*'), allowHttp: false }

t.test('host, port and path', async (t) => {
  t.match(parseDaemonUrl('https://host7.example.com:54322/images/x', rules), {
    isTls: true,
    host: 'host7.example.com',
    port: 54322,
    address: 'host7.example.com:54322',
    path: '/images/x',
  })
  t.match(parseDaemonUrl('https://[FD00::1]/images/x', rules), {
    host: 'fd00::1',
    port: 443,
    address: '[fd00::1]:443',
  })
  t.match(parseDaemonUrl('http://h/images/x', { ...rules, allowHttp: true }), { port: 80 })
})

t.test('as tickets show it: without query, the rest as it is', async (t) => {
  t.equal(
    normalizeDaemonUrl('HTTPS://Host:54322/images/x?y#z', rules),
    'https://host:54322/images/x',
  )
  t.equal(normalizeDaemonUrl('https://h:443/images/a%20b', rules), 'https://h/images/a%20b')
})

t.test('anything else is refused', async (t) => {
  for (const url of [
    'file:///images/x',
    'http://h/images/x',
    'https://h/tickets/x',
    'https://h/images/',
    'https://h/images/?x',
    'https://h/images//',
    'https://h/images/x/',
    'https://h/images/x/extents',
    'https://h/images/x%2Fextents',
    'https://h/images/..%2ftickets',
    'https://h/images/..%5Ctickets',
    'https://h\\images\\x',
    'https://h/images/a\\..\\x',
    'https://h/admin/images/x',
    'https://h//images/x',
    'https://h/images/a/../../b/images/c',
    'https://h/a?/images/x',
    'https://h/images/../tickets/x',
    'https://user:secret@h/images/x',
    'https:///images/x',
    'https:h/images/x',
    'https:/h/images/x',
    'https:///h/images/x',
    ' https://h/images/x',
    'ht\ntps://h/images/x',
    'nbd:unix:/a',
    'x',
  ]) {
    const code = 'ERR_UNSUPPORTED_DAEMON_URL'
    t.throws(() => parseDaemonUrl(url, rules), { code }, url)
  }
  const none = { ...rules, allowed: parsePatterns('other') }
  t.throws(() => parseDaemonUrl('https://h/images/x', none), { code: 'ERR_DAEMON_NOT_ALLOWED' })
})
