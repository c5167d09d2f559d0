import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { run } from '../../ctl/run.js'

interface Asked {
  readonly method: string | undefined
  readonly url: string | undefined
  readonly body: string
}

interface Answer {
  readonly status: number
  readonly body?: string
}

/** A control service that says what it is told to, and keeps what it was asked. */
async function fakeService(t: Test, answer: Answer, where: string | number): Promise<Fake> {
  const asked: Asked[] = []
  const receive = async (request: IncomingMessage): Promise<void> => {
    const { method, url } = request
    asked.push({ method, url, body: await text(request) })
  }
  const server = createServer((request, response) => {
    void receive(request).then(() => response.writeHead(answer.status).end(answer.body))
  })
  server.listen(typeof where === 'string' ? { path: where } : { port: where, host: '127.0.0.1' })
  await once(server, 'listening')
  t.teardown(() => void server.close())
  return { asked, port: (server.address() as Partial<AddressInfo>).port ?? 0 }
}

interface Fake {
  readonly asked: Asked[]
  readonly port: number
}

function configure(t: Test, control: string): string {
  const dir = t.testdir({ 'conf.d': {} })
  writeFileSync(join(dir, 'conf.d', 'a.conf'), `[tls]\nenable = false\n[control]\n${control}\n`)
  return dir
}

/** Short, since the path of a socket holds 107 bytes. */
function socketPath(t: Test): string {
  const dir = `/tmp/imageioctl-${process.pid}-${Math.random().toString(36).slice(2)}`
  mkdirSync(dir, { mode: 0o700 })
  t.teardown(async () => import('node:fs').then(({ rmSync }) => rmSync(dir, { recursive: true })))
  return join(dir, 'sock')
}

async function imageioctl(argv: readonly string[], input = '') {
  let [output, errors] = ['', '']
  const status = await run(argv, {
    stdin: (async function* () {
      yield Buffer.from(input)
    })(),
    print: (text) => void (output += text),
    printError: (text) => void (errors += text),
  })
  return { status, output, errors }
}

async function withService(t: Test, answer: Answer) {
  const path = socketPath(t)
  const { asked } = await fakeService(t, answer, path)
  const conf = configure(t, `socket = ${path}`)
  const ctl = (argv: readonly string[], input?: string) => imageioctl(['-c', conf, ...argv], input)
  return { asked, conf, ctl }
}

const BIG = '{"uuid": "an/id", "size": 18446744073709551616}\n'

t.test('add sends the file as it is to the path of its uuid', async (t) => {
  const { asked, conf, ctl } = await withService(t, { status: 200 })
  const file = join(conf, 'ticket.json')
  writeFileSync(file, BIG)
  t.strictSame(await ctl(['add', file]), { status: 0, output: '', errors: '' })
  t.strictSame(asked, [{ method: 'PUT', url: '/tickets/an%2Fid', body: BIG }])
})

t.test('add reads standard input when the file is a dash', async (t) => {
  const { asked, ctl } = await withService(t, { status: 200 })
  t.match(await ctl(['add-ticket', '-'], BIG), { status: 0 })
  t.equal(asked[0]?.body, BIG)
})

t.test('what is not a ticket is refused before the daemon is asked', async (t) => {
  const { asked, conf, ctl } = await withService(t, { status: 200 })
  for (const [input, reason] of [
    ['{', 'not JSON'],
    ['', 'not JSON'],
    ['[]', 'it has no uuid'],
    ['{"uuid": 5}', 'it has no uuid'],
    ['{"uuid": ""}', 'its uuid is empty'],
    [' '.repeat(100_000), 'too long'],
  ] as const) {
    const { status, errors } = await ctl(['add', '-'], input)
    t.equal(status, 1)
    t.match(errors, /^imageioctl: standard input: [^\n]*\n$/)
    t.match(errors, reason)
  }
  const missing = await ctl(['add', join(conf, 'missing')])
  t.match(missing, { status: 1, errors: /^imageioctl: .*missing: no such file\n$/ })
  t.strictSame(asked, [])
})

t.test("show prints the daemon's JSON with all digits, or lines for people", async (t) => {
  const body = '{"uuid":"0123456789ab","size":18446744073709551615,"ops":["read"]}\n'
  const { asked, ctl } = await withService(t, { status: 200, body })
  const json = await ctl(['show-ticket', '0123456789ab'])
  t.match(json.output, '  "size": 18446744073709551615,\n')
  t.equal((await ctl(['show', '--json', '0123456789ab'])).output, json.output)
  t.match((await ctl(['show', '0123456789ab'])).output, /^size +16 EiB/m)
  t.match(asked[0], { method: 'GET', url: '/tickets/0123456789ab' })
})

t.test('list asks for the tickets and prints a table or JSON', async (t) => {
  const body = '[{"uuid":"0123…","size":1,"seconds_left":7}]\n'
  const { asked, ctl } = await withService(t, { status: 200, body })
  t.match((await ctl(['list'])).output, /0123….* 7 s\n$/)
  t.match((await ctl(['list', '--json'])).output, '"seconds_left": 7')
  t.match(asked[0], { method: 'GET', url: '/tickets' })
})

t.test('add with a limit changes nothing else of the ticket', async (t) => {
  const { asked, ctl } = await withService(t, { status: 200 })
  const json = '{"uuid": "id", "size": 18446744073709551616, "max_bytes_per_second": 5, "x": [1]}'
  const added = await ctl(['add', '-', '--max-bytes-per-second', '0'], json)
  t.match(added, { status: 0, output: '' })
  t.match(asked, [
    { body: '{"uuid":"id","size":18446744073709551616,"max_bytes_per_second":0,"x":[1]}' },
  ])
})

t.test('modify sends the seconds and the limit, delete the method', async (t) => {
  const { asked, ctl } = await withService(t, { status: 200 })
  t.match(await ctl(['modify', 'id', '--timeout', '300']), { status: 0, output: '' })
  const limit = ['--max-bytes-per-second', '10M']
  t.match(await ctl(['modify', 'id', ...limit]), { status: 0, output: '' })
  t.match(await ctl(['modify', 'id', '--timeout', '3', ...limit]), { status: 0, output: '' })
  t.match(await ctl(['delete', 'id']), { status: 0, output: '' })
  t.match(asked, [
    { method: 'PATCH', url: '/tickets/id', body: '{"timeout":300}' },
    { method: 'PATCH', body: '{"max_bytes_per_second":10485760}' },
    { method: 'PATCH', body: '{"timeout":3,"max_bytes_per_second":10485760}' },
    { method: 'DELETE', url: '/tickets/id', body: '' },
  ])
})

t.test("a refusal is one line with the status and the daemon's words", async (t) => {
  const { ctl } = await withService(t, { status: 404, body: 'no such\u001b[2J ticket\nmore\n' })
  const expected = { status: 1, output: '', errors: 'imageioctl: 404 no such [2J ticket\n' }
  t.strictSame(await ctl(['show', 'id']), expected)
})

t.test('an answer that makes no sense is an error and not a crash', async (t) => {
  const { ctl } = await withService(t, { status: 200, body: '"text"' })
  t.match(await ctl(['show', 'id']), { status: 1, errors: /not a ticket\n$/ })
  t.match(await ctl(['list']), { status: 1, errors: /not a list\n$/ })
})

t.test('only where the control service is matters, not what kind of server has it', async (t) => {
  const { asked, conf, ctl } = await withService(t, { status: 200, body: '[]' })
  const rest =
    '[signed_tickets]\nenable = true\nkeys = /keys\naudience = proxy\n[remote]\nport = none\n' +
    '[proxy]\nallowed_daemons = *.hosts.example.com\n[tls]\nenable = true\n'
  writeFileSync(join(conf, 'conf.d', 'b.conf'), rest)
  t.match(await ctl(['list']), { status: 0, errors: '' })
  t.match(await ctl(['revoke', 'backup-17']), { status: 0, errors: '' })
  t.equal(asked.length, 2)
})

t.test('an abstract socket is reached', async (t) => {
  const name = `imageioctl-test-${process.pid}`
  await fakeService(t, { status: 200, body: '[]' }, `\0${name}`)
  t.match(await imageioctl(['-c', configure(t, `socket = @${name}`), 'list']), { status: 0 })
})

t.test('a TCP port is reached, a free port cannot be known', async (t) => {
  const { port } = await fakeService(t, { status: 200, body: '[]' }, 0)
  const tcp = configure(t, `transport = tcp\nport = ${port}`)
  t.match(await imageioctl(['-c', tcp, 'list']), { status: 0 })
  const free = configure(t, 'transport = tcp\nport = 0')
  t.match(await imageioctl(['-c', free, 'list']), { status: 1, errors: /not fixed/ })
})

t.test('without a daemon or a configuration there is one line that says so', async (t) => {
  const absent = configure(t, 'socket = /nonexistent/sock')
  const errors =
    'imageioctl: cannot talk to the daemon at /nonexistent/sock: no such socket; is it running?\n'
  t.strictSame(await imageioctl(['-c', absent, 'list']), { status: 1, output: '', errors })
  const off = configure(t, 'enable = false')
  t.match(await imageioctl(['-c', off, 'list']), { status: 1, errors: /control service is off/ })
  const none = await imageioctl(['-c', '/nonexistent', 'list'])
  t.match(none, { status: 1, errors: /^imageioctl: no configuration.*\n$/ })
})

t.test('wrong arguments end with 2, help with 0', async (t) => {
  t.match(await imageioctl(['frobnicate']), {
    status: 2,
    errors: /^imageioctl: unknown command.*\n$/,
  })
  t.match(await imageioctl([]), { status: 0, output: /Commands/, errors: '' })
})

t.test('revoke, unrevoke and revocations ask the control service', async (t) => {
  const { asked, ctl } = await withService(t, { status: 200 })
  t.match(await ctl(['revoke', 'backup 17']), { status: 0, output: '', errors: '' })
  t.match(await ctl(['unrevoke', 'backup-17']), { status: 0, output: '', errors: '' })
  t.match(asked, [
    { method: 'PUT', url: '/revocations/backup%2017', body: '' },
    { method: 'DELETE', url: '/revocations/backup-17' },
  ])
  t.match(await ctl(['revoke']), { status: 2, errors: /TRANSFER is missing/ })
  t.match(await ctl(['revocations', 'x']), { status: 2, errors: /too many arguments/ })
  const body = '[{"transfer_id": "backup-17", "revoked": 1767225600, "until": 1767312010}]'
  const listing = await withService(t, { status: 200, body })
  t.strictSame((await listing.ctl(['revocations'])).output.split('\n'), [
    'TRANSFER   REVOKED               UNTIL',
    'backup-17  2026-01-01T00:00:00Z  2026-01-02T00:00:10Z',
    '',
  ])
  t.match((await listing.ctl(['revocations', '--json'])).output, /"until": 1767312010/)
})

t.test('the manual page names every command and option', async (t) => {
  const manual = readFileSync('docs/imageioctl.md', 'utf8')
  for (const word of [
    'add',
    'show',
    'list',
    'modify',
    'delete',
    'revoke',
    'unrevoke',
    'revocations',
    'make-key',
    'sign-ticket',
    '--conf-dir',
    '--json',
    '--timeout',
  ]) {
    t.match(manual, word)
  }
})
