import t from 'tap'
import { formatList, formatTicket, humanBytes } from '../../ctl/table.js'

const ticket = new Map<string, unknown>([
  ['active', false],
  ['canceled', false],
  ['connections', 2],
  ['idle_time', 3],
  ['inactivity_timeout', 60],
  ['ops', ['read']],
  ['size', 6442450944],
  ['sparse', false],
  ['dirty', false],
  ['timeout', 300],
  ['url', 'file:///images/disk.raw'],
  ['uuid', '5f0a7c1d-4240-1b4e'],
  ['transfer_id', 'backup'],
  ['transferred', 1610612736],
  ['seconds_left', 290],
])

function having(...entries: [string, unknown][]): Map<string, unknown> {
  return new Map([...ticket, ...entries])
}

t.test('sizes have three digits and a binary unit', async (t) => {
  t.equal(humanBytes(0), '0 B')
  t.equal(humanBytes(1023), '1023 B')
  t.equal(humanBytes(1024), '1 KiB')
  t.equal(humanBytes(1310), '1.28 KiB')
  t.equal(humanBytes(64 * 2 ** 20), '64 MiB')
  t.equal(humanBytes(2n ** 64n), '16 EiB')
})

t.test('the list has columns as wide as they must be, numbers to the right', async (t) => {
  const list = formatList([ticket, having(['transfer_id', 'a longer name'], ['connections', 12])])
  const [header = '', first = '', second = '', end] = list.split('\n')
  t.equal(end, '')
  t.match(header, /^ID +TRANSFER +OPS +SIZE +MOVED +STATE +CLIENTS +IDLE +LEFT$/)
  t.equal(header.indexOf('OPS'), first.indexOf('read'))
  t.equal(first.indexOf('read'), second.indexOf('read'))
  t.match(first, /6 GiB +1\.5 GiB +idle +2 +3 s +290 s$/)
})

t.test('an empty list is only its header', async (t) => {
  t.match(formatList([]), /^ID .*LEFT\n$/)
})

t.test('the state is the most important thing about a ticket', async (t) => {
  const state = (...entries: [string, unknown][]): string | undefined =>
    /^state +(.*)$/m.exec(formatTicket(having(...entries)))?.[1]
  t.equal(state(), 'idle')
  t.equal(state(['active', true]), 'active')
  t.equal(state(['seconds_left', 0]), 'expired')
  t.equal(state(['active', true], ['canceled', true]), 'canceled')
  t.equal(state(['active', true], ['broken', true]), 'broken')
})

t.test('a limit is shown where there is one', async (t) => {
  t.match(
    formatTicket(having(['max_bytes_per_second', 10_485_760])),
    /^limit +10 MiB\/s \(10485760 /m,
  )
  t.notMatch(formatTicket(ticket), 'limit')
})

t.test('a ticket is shown without its secret, with exact sizes and progress', async (t) => {
  const text = formatTicket(ticket)
  t.notMatch(text, /4240/)
  t.match(text, /^id +5f0a7c…$/m)
  t.match(text, /^size +6 GiB \(6442450944 bytes\)$/m)
  t.match(text, /^moved +1\.5 GiB \(1610612736 bytes\), 25 %$/m)
  t.match(text, /^sparse +no$/m)
})

t.test('the URL of a daemon is shown without the ticket in it', async (t) => {
  const shown = (url: string): string | undefined =>
    /^url +(.*)$/m.exec(formatTicket(having(['url', url])))?.[1]
  t.equal(
    shown('https://host7:54322/images/5f0a7c1d-4240-1b4e'),
    'https://host7:54322/images/5f0a7c…',
  )
  t.equal(shown('http://[::1]:1/images/abc'), 'http://[::1]:1/images/a…')
  t.equal(shown('https://host7/other/5f0a7c1d-4240'), 'https://host7/other/…')
  t.equal(shown('file:///images/disk.raw'), 'file:///images/disk.raw')
  t.equal(shown('nbd:unix:/run/nbd.sock'), 'nbd:unix:/run/nbd.sock')
})

t.test('the id of a signed ticket is no secret', async (t) => {
  t.match(formatTicket(having(['signed', true])), /^id +5f0a7c1d-4240-1b4e$/m)
})

t.test('what is absent is not shown', async (t) => {
  const text = formatTicket(new Map([['uuid', 'x']]))
  t.notMatch(text, /moved|file name|undefined/)
})

t.test('no digit of a large size is lost', async (t) => {
  t.match(formatTicket(having(['size', 2n ** 64n])), '(18446744073709551616 bytes)')
})

t.test('a terminal cannot be made to obey what a ticket says', async (t) => {
  const text = formatTicket(having(['transfer_id', 'a\u001b[2Jb\u202e']))
  t.match(text, 'a?[2Jb?')
})
