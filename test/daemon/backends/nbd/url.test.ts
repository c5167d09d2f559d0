import t from 'tap'
import { normalizeNbdUrl, parseNbdUrl } from '../../../../daemon/backends/nbd/url.js'

t.test('203-204: every form leads to its address and export', async (t) => {
  const unix = { path: '/run/s' }
  const tcp = { host: 'h.example', port: 10809 }
  const v6 = { host: '::1', port: 1 }
  const forms: [string, object, string][] = [
    ['nbd:unix:/run/s', unix, ''],
    ['nbd:unix:/run/s:exportname=', unix, ''],
    ['nbd:unix:/run/s:exportname=a:b/c d%20', unix, 'a:b/c d%20'],
    ['nbd:unix:/run/s:exportname=:exportname=x', unix, ':exportname=x'],
    ['nbd:unix:/run/s:exportname=a\tb\n', unix, 'a\tb\n'],
    ['nbd://h.example:10809', tcp, ''],
    ['nbd://h.example:10809/', tcp, ''],
    ['nbd://h.example:10809/name', tcp, 'name'],
    ['nbd://h.example:10809//x', tcp, '/x'],
    ['nbd://h.example:10809/a/b:c', tcp, 'a/b:c'],
    ['nbd:h.example:10809', tcp, ''],
    ['nbd:h.example:10809:exportname=a:b', tcp, 'a:b'],
    ['nbd://[::1]:1/x', v6, 'x'],
    ['nbd:[::1]:1:exportname=x', v6, 'x'],
    ['NBD:h.example:10809', tcp, ''],
  ]
  for (const [url, address, exportName] of forms) {
    t.strictSame(parseNbdUrl(url), { tls: false, address, exportName }, url)
  }
  t.strictSame(parseNbdUrl('nbds://[::1]:1/x'), { tls: true, address: v6, exportName: 'x' })
})

t.test('anything else is refused with a reason', async (t) => {
  for (const url of [
    'nbd:',
    'nbd://',
    'nbd:///name',
    'nbd://h',
    'nbd://h/',
    'nbd:h',
    'nbd:h:',
    'nbd:h:0',
    'nbd:h:65536',
    'nbd:h:123456',
    'nbd:h:1junk',
    'nbd:h:1:junk',
    'nbd:h:1/name',
    'nbd:h:-1',
    'nbd:h:+1',
    'nbd:h:0x1',
    'nbd:::1:1',
    'nbd:[::g]:1',
    'nbd:[h]:1',
    'nbd:[::1]',
    'nbd://user@h:1',
    'nbd://h h:1',
    'nbd:unix:',
    'nbd:unix:run/s',
    'nbd:unix:/run/s:junk',
    'nbd:unix:/run/s\n',
    'nbd:unix:/run/s\r:exportname=x',
    'nbd:unix:/run/\x7fs',
    'nbd:unix:/run/\x85s',
    'nbd:h\x01:1',
    'nbd://h\x1b:1/x',
    'nbd:unix:/run/s:exportname=a\0',
    'nbd:unix:/run/s:export=x',
    `nbd:unix:/${'x'.repeat(107)}`,
    `nbd://h:1/${'x'.repeat(4097)}`,
    'nbd://h:1/a\0b',
    'nbd://h:1/\ud800',
    'nbds:h:1',
    'nbds:unix:/run/s',
  ])
    t.throws(
      () => parseNbdUrl(url),
      { code: 'ERR_UNSUPPORTED_URL', message: /supported: ./ },
      JSON.stringify(url.slice(0, 40)),
    )
})

t.test('tickets show the URL as it came, the scheme in lower case', async (t) => {
  t.equal(normalizeNbdUrl('NBD:unix:/A:exportname=B'), 'nbd:unix:/A:exportname=B')
  t.equal(normalizeNbdUrl('NbdS://H:1/N'), 'nbds://H:1/N')
  t.throws(() => normalizeNbdUrl('nbd:x'), { code: 'ERR_UNSUPPORTED_URL' })
})
