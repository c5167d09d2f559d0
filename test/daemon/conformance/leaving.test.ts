import t from 'tap'
import { once } from 'node:events'
import { writeFileSync, truncateSync } from 'node:fs'
import { openSync, writeSync, closeSync, readFileSync, readdirSync } from 'node:fs'
import http2 from 'node:http2'
import tls from 'node:tls'
import { startDaemon, type Daemon } from '../../support/daemon.js'
import { openH2, request, requestH2 } from '../../support/http.js'
import { until, within } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'

const HOST = 'Host: localhost\r\n'
const KiB = 1024

t.test('clients that leave, early or half', async (t) => {
  const daemon = await startDaemon(t, { config: { control: { remove_timeout: 5 } } })
  const openFiles = (): number => readdirSync(`/proc/${daemon.pid}/fd`).length

  t.test('16: who closes the sending side gets the answers', async (t) => {
    const image = await daemon.addImage()
    for (const target of [daemon.local, daemon.control]) {
      const wire = await Wire.open(target)
      const path = target === daemon.local ? image.url : `/tickets/${image.id}`
      await wire.send(`GET ${path} HTTP/1.1\r\n${HOST}\r\n`)
      wire.end()
      t.equal((await wire.response()).status, 200)
      t.ok(await wire.isClosedSilently())
    }
    const wire = await Wire.open(daemon.local)
    await wire.send(`PUT ${image.url} HTTP/1.1\r\n${HOST}Content-Length: 5\r\n\r\nhello`)
    wire.end()
    t.equal((await wire.response()).status, 200)
    t.equal(image.bytes().toString('latin1', 0, 5), 'hello')
  })

  t.test('193: an HTTP/2 client that leaves at once leaves nothing', async (t) => {
    const image = await daemon.addImage(64 * KiB * KiB)
    const before = openFiles()
    for (let round = 0; round < 30; round++) {
      await leaveEarly(daemon, [])
      await leaveEarly(daemon, ['/info/'])
      await leaveEarly(daemon, [image.url, `${image.url}/extents`])
    }
    await until('all connections are gone', () => openFiles() <= before + 1, { timeoutMs: 20_000 })
    const isOver = (info: { active: boolean; connections: number }): boolean =>
      !info.active && info.connections === 0
    await daemon.ticketWhen(image.id, 'nothing is left', isOver)
    t.equal((await daemon.controlRequest('DELETE', `/tickets/${image.id}`)).status, 204)
  })

  t.test('192: a client that leaves a long list of extents leaves no hold', async (t) => {
    const image = await daemon.addImage(0, { size: 1024 * KiB * KiB })
    fragment(image.file, 12_000)
    const wire = await Wire.open(daemon.local)
    await wire.send(`GET ${image.url}/extents HTTP/1.1\r\n${HOST}\r\n`)
    await daemon.ticketWhen(image.id, 'it is opened', (info) => info.connections === 1)
    wire.destroy()
    const startedAt = performance.now()
    t.equal((await daemon.controlRequest('DELETE', `/tickets/${image.id}`)).status, 204)
    t.ok(performance.now() - startedAt < 3000)
  })

  t.test('5: unknown methods over HTTP/2 give 405 as text', async (t) => {
    const session = await openH2(daemon.remote)
    t.teardown(() => session.destroy())
    for (const method of ['FOO', 'get', 'QUERY', 'PROPFIND']) {
      const reply = await requestH2(session, method, '/info/')
      t.equal(reply.status, 405, method)
      t.match(reply.headers['content-type'], /^text\/plain/)
      t.match(reply.headers['allow'], /GET/)
    }
    const reply = await request(daemon.remote, 'QUERY', '/info/')
    t.equal(reply.status, 405)
    t.match(reply.headers['content-type'], /^text\/plain/)
  })

  t.test('who sends requests for ever and reads nothing is cut off', async (t) => {
    const head = `GET /images/nope HTTP/1.1\r\n${HOST}\r\n`
    const wires = await Promise.all(Array.from({ length: 20 }, () => Wire.open(daemon.remote)))
    t.teardown(() => wires.forEach((wire) => wire.destroy()))
    const flood = async (wire: Wire): Promise<number> => {
      let sent = 0
      while (sent < 100 && (await wire.send(head.repeat(2000)))) sent++
      return sent
    }
    for (const sent of await within('their ends', 20_000, Promise.all(wires.map(flood)))) {
      t.ok(sent < 100)
    }
    t.equal((await daemon.controlRequest('GET', '/tickets')).status, 200)
    const [, rss] =
      /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${daemon.pid}/status`, 'utf8')) ?? []
    t.ok(Number(rss) < 400 * 1024, `${rss} kB`)
  })

  t.test('19: of too many pipelined requests the first are answered', async (t) => {
    const wire = await Wire.open(daemon.remote)
    const head = `GET /info/ HTTP/1.1\r\n${HOST}\r\n`
    await wire.send(head.repeat(150))
    const answers = (await wire.rest(5000)).toString('latin1').match(/HTTP\/1\.1 200/g) ?? []
    t.ok(answers.length >= 100 && answers.length < 150, `${answers.length} answers`)
  })
})

t.test('32: who does not take a short answer is cut', async (t) => {
  const daemon = await startDaemon(t, { config: { limits: { idle_timeout: 1 } } })
  const session = http2.connect(daemon.url, {
    ca: daemon.ca,
    settings: { initialWindowSize: 0 },
  })
  t.teardown(() => session.destroy())
  const stream = session.request({ ':path': '/info/' })
  stream.on('error', () => undefined)
  const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders]
  t.equal(headers[':status'], 200)
  await until('the stream is reset', () => stream.closed || stream.destroyed, { timeoutMs: 5000 })
  t.not(stream.rstCode, 0)
})

/** Preface and requests, and away, without reading. */
async function leaveEarly(daemon: Daemon, paths: string[]): Promise<void> {
  const socket = tls.connect({
    host: '127.0.0.1',
    port: daemon.port,
    ca: daemon.ca,
    ALPNProtocols: ['h2'],
  })
  socket.on('error', () => undefined)
  await once(socket, 'secureConnect')
  const session = http2.connect(daemon.url, { createConnection: () => socket })
  session.on('error', () => undefined)
  for (const path of paths) session.request({ ':path': path }).on('error', () => undefined)
  await new Promise((resolve) => setImmediate(resolve))
  socket.destroy()
}

/** Data in every other block. */
function fragment(file: string, pieces: number): void {
  writeFileSync(file, '')
  truncateSync(file, pieces * 8 * KiB)
  const fd = openSync(file, 'r+')
  const block = Buffer.alloc(4 * KiB, 'x')
  for (let piece = 0; piece < pieces; piece++)
    writeSync(fd, block, 0, block.length, piece * 8 * KiB)
  closeSync(fd)
}
