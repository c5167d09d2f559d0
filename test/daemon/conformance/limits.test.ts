import t from 'tap'
import net from 'node:net'
import { startDaemon, type Daemon } from '../../support/daemon.js'
import { request } from '../../support/http.js'
import { sleep, until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'

const HOST = 'Host: localhost\r\n'
const INFO = `GET /info/ HTTP/1.1\r\n${HOST}\r\n`

t.test('A. time', async (t) => {
  const limits = { idle_timeout: 1, header_timeout: 1, handshake_timeout: 1 }
  const daemon = await startDaemon(t, { config: { limits } })

  t.test('32: an unauthorized connection that is idle is closed', async (t) => {
    for (const target of [daemon.remote, daemon.local]) {
      const silent = await Wire.open(target)
      const served = await Wire.open(target)
      t.equal((await served.ask(`GET /nowhere HTTP/1.1\r\n${HOST}\r\n`)).status, 404)
      t.ok(await served.isClosedSilently(4000))
      await silent.rest(4000)
    }
  })

  t.test('33: an authorized connection stays for the time of its ticket', async (t) => {
    const image = await daemon.addImage(10, { inactivity_timeout: 3 })
    const wire = await Wire.open(daemon.remote)
    const start = performance.now()
    t.equal((await wire.ask(`GET ${image.url} HTTP/1.1\r\n${HOST}\r\n`)).status, 200)
    t.ok(await wire.isClosedSilently(8000))
    const ms = performance.now() - start
    t.ok(ms > 2800 && ms < 6000, `${ms} ms`)
    await daemon.ticketWhen(image.id, 'closed', (info) => info.connections === 0)
  })

  t.test('32: a header that does not end is not waited for', async (t) => {
    const wire = await Wire.open(daemon.remote)
    const timer = setInterval(() => void wire.send('X-A: b\r\n'), 200)
    await wire.send('GET /info/ HTTP/1.1\r\n')
    const rest = await wire.rest(6000)
    clearInterval(timer)
    if (rest.length > 0) t.match(rest.toString('latin1'), /^HTTP\/1\.1 408 /)
    t.pass('the connection has ended')
  })

  t.test('239: a TLS handshake that does not come is not waited for', async (t) => {
    const silent = net.connect(daemon.port, '127.0.0.1')
    silent.on('error', () => undefined)
    await until('connected', () => !silent.connecting)
    t.equal((await request(daemon.remote, 'GET', '/info/')).status, 200, 'others are served')
    await until('the silent one is closed', () => silent.closed, { timeoutMs: 5000 })
    t.pass('closed')
  })

  t.test('97: a download nobody takes is cut', async () => {
    const image = await daemon.addImage(Buffer.alloc(64 * 1024 * 1024), { inactivity_timeout: 1 })
    const wire = await Wire.open(daemon.remote, { isReading: false })
    await wire.send(`GET ${image.url} HTTP/1.1\r\n${HOST}\r\n`)
    await daemon.ticketWhen(image.id, 'begun', (info) => info.active)
    await daemon.ticketWhen(image.id, 'cut', (info) => !info.active && info.connections === 0)
    wire.destroy()
  })
})

t.test('33: a short ticket does not shorten the sixty seconds', async (t) => {
  const daemon: Daemon = await startDaemon(t)
  const image = await daemon.addImage(10, { inactivity_timeout: 1 })
  const wire = await Wire.open(daemon.remote)
  const get = `GET ${image.url} HTTP/1.1\r\n${HOST}\r\n`
  t.equal((await wire.ask(get)).status, 200)
  for (let second = 0; second < 3; second++) await sleep(1000)
  t.equal((await wire.ask(get)).status, 200, 'three seconds later')
  wire.destroy()
})

t.test('239: silent clients do not keep others waiting', async (t) => {
  const daemon = await startDaemon(t)
  const silent = Array.from({ length: 50 }, () => net.connect(daemon.port, '127.0.0.1'))
  for (const socket of silent) socket.on('error', () => undefined)
  await until('connected', () => silent.every((socket) => !socket.connecting))
  const start = performance.now()
  t.equal((await request(daemon.remote, 'GET', '/info/')).status, 200)
  t.ok(performance.now() - start < 1000)
  for (const socket of silent) socket.destroy()
})

t.test('W17: connections are limited in all and per address', async (t) => {
  for (const [limits, target] of [
    [{ max_connections: 3 }, 'remote'],
    [{ max_connections: 3 }, 'local'],
    [{ max_connections_per_address: 3 }, 'remote'],
  ] as const) {
    const daemon = await startDaemon(t, { config: { limits } })
    const served: Wire[] = []
    const path = target === 'remote' ? '/info/' : '/images/*'
    const method = target === 'remote' ? 'GET' : 'OPTIONS'
    const ask = `${method} ${path} HTTP/1.1\r\n${HOST}\r\n`
    await until('earlier connections are closed', async () => {
      for (const wire of served.splice(0)) wire.destroy()
      await sleep(50)
      for (let count = 0; count < 3; count++) {
        const wire = await open(daemon, target)
        if (wire === undefined) return false
        served.push(wire)
        const reply = await wire.ask(ask).catch(() => undefined)
        if (reply?.status !== 200) return false
      }
      return true
    })
    const over = await open(daemon, target)
    const refused = over === undefined ? 'refused' : await over.ask(ask).catch(() => 'refused')
    t.ok(refused === 'refused' || (typeof refused === 'object' && refused.status === 503))
    t.equal((await daemon.controlRequest('GET', '/tickets')).status, 200, 'control is not limited')
    served[0]?.destroy()
    await until('a place is free again', async () => {
      const wire = await open(daemon, target)
      const reply = await wire?.ask(ask).catch(() => undefined)
      wire?.destroy()
      return reply?.status === 200
    })
    for (const wire of served) wire.destroy()
    await daemon.stop()
  }
})

async function open(daemon: Daemon, target: 'remote' | 'local'): Promise<Wire | undefined> {
  try {
    return await Wire.open(daemon[target])
  } catch {
    return undefined
  }
}

t.test('77: a stalled download keeps nobody waiting', async (t) => {
  const daemon = await startDaemon(t)
  const image = await daemon.addImage(Buffer.alloc(64 * 1024 * 1024))
  const stalled = await Wire.open(daemon.remote, { isReading: false })
  await stalled.send(`GET ${image.url} HTTP/1.1\r\n${HOST}\r\n`)
  await daemon.ticketWhen(image.id, 'begun', (info) => info.active)
  const wire = await Wire.open(daemon.remote)
  t.equal((await wire.ask(INFO)).status, 200)
  wire.destroy()
  stalled.destroy()
})

t.test('with no memory left a transfer waits, then gets 503, and nothing dies', async (t) => {
  const MiB = 1024 * 1024
  const limits = { buffer_memory: 16 * MiB, buffer_wait_timeout: 1 }
  const daemon = await startDaemon(t, { config: { limits } })
  const image = await daemon.addImage(Buffer.alloc(64 * MiB, 'x'))
  const head = `GET ${image.url} HTTP/1.1\r\n${HOST}\r\n`
  const greedy: Wire[] = []
  t.teardown(() => greedy.forEach((wire) => wire.destroy()))
  for (let index = 0; index < 16; index++) {
    const wire = await Wire.open(index % 2 === 0 ? daemon.remote : daemon.local, {
      isReading: false,
    })
    greedy.push(wire)
    await wire.send(head)
  }
  const body = Buffer.alloc(2 * MiB, 'y')
  for (const target of [daemon.remote, daemon.local]) {
    // Those that have two may still hand one on, so it is not the first that finds none.
    const busy = await until('nothing is left', async () => {
      const reply = await request(target, 'GET', image.url, {
        headers: { range: 'bytes=0-1048575' },
      })
      return reply.status === 503 && reply
    })
    t.match(busy.headers, { 'retry-after': /^\d+$/ })
    const upload = await request(target, 'PUT', image.url, { body })
    t.equal(upload.status, 503)
    t.match(upload.headers, { 'retry-after': /^\d+$/ })
    t.equal((await request(target, 'OPTIONS', image.url)).status, 200, 'what needs none is served')
  }
  const waiting = request(daemon.remote, 'GET', image.url, { headers: { range: 'bytes=0-9' } })
  for (const wire of greedy) wire.destroy()
  t.equal((await waiting).status, 206, 'who waits is served when there is some again')
  t.equal((await request(daemon.remote, 'PUT', image.url, { body })).status, 200)
  t.ok(daemon.isRunning)
})
