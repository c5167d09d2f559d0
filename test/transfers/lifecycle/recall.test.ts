/** What daemons have recorded of uploads decides what becomes of them when a daemon, or the service, was gone. */
import { randomBytes } from 'node:crypto'
import { Agent } from 'node:http'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { NotStoredError } from '../../../transfers/fault.js'
import { startDaemon, type Daemon } from '../../support/daemon.js'
import { request } from '../../support/http.js'
import { startProxy } from '../../support/proxy.js'
import { failCloses, failSyncs, skipWithoutStrace } from '../../support/strace.js'
import { until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'
import { startEngine, type Engine, type EngineOptions } from '../engine.js'

const SIZE = 65536

interface Upload {
  readonly engine: Engine
  readonly first: Daemon
  readonly diskId: string
  readonly id: string
  readonly ticketId: string
  readonly file: string
}

interface BeginOptions extends EngineOptions {
  readonly format?: 'raw' | 'cow'
  /** Called with the daemon's directory. */
  readonly prepare?: (dir: string) => void
}

async function begin(
  t: Test,
  { format = 'raw', prepare, ...options }: BeginOptions = {},
): Promise<Upload> {
  const first = await startDaemon(t, { config: { daemon: { shutdown_timeout: 0 } } })
  prepare?.(first.dir)
  const engine = await startEngine(t, { daemon: first, ...options })
  const disk = await engine.addDisk({ format, provisionedSize: SIZE, initialSize: SIZE })
  const { id, ticketId = '' } = await engine.transferring({ diskId: disk.id })
  return { engine, first, diskId: disk.id, id, ticketId, file: engine.volumes.path(disk) }
}

/** Sends a head and some bytes of its body; nobody looks at the ticket meanwhile. */
async function sendSome(t: Test, daemon: Daemon, ticketId: string): Promise<void> {
  const wire = await Wire.open(daemon.remote)
  t.teardown(() => wire.destroy())
  await wire.send(
    `PUT /images/${ticketId} HTTP/1.1\r\nHost: h\r\nContent-Length: ${SIZE}\r\n\r\nab`,
  )
  await daemon.ticketWhen(ticketId, 'it writes', (info) => info.active)
}

const put = (daemon: Daemon, ticketId: string, body: string | Buffer, headers = {}) =>
  request(daemon.remote, 'PUT', `/images/${ticketId}`, { body, headers })

async function restart(
  t: Test,
  { first, engine, ticketId }: Upload,
  signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL',
): Promise<Daemon> {
  first.process.kill(signal)
  await first.exited()
  const second = await startDaemon(t, { from: first })
  await until('the ticket is back', async () => {
    engine.clock.advance(1000)
    return (await second.controlRequest('GET', `/tickets/${ticketId}`)).status === 200
  })
  return second
}

/** Status of the disk, and why. */
async function finalize({ engine, id, diskId }: Upload): Promise<string | undefined> {
  await engine.service.act(id, 'finalize')
  const over = ['finished_success', 'finished_failure']
  await until('it is over', async () => {
    engine.clock.advance(1000)
    return over.includes((await engine.service.transfer(id))?.phase ?? '')
  })
  const { message = '' } = (await engine.service.transfer(id)) ?? {}
  return [(await engine.service.disk(diskId))?.status, message].join(' ').trim()
}

/** The machine was started again: what is below /run is gone. */
function forget({ first }: Upload): void {
  rmSync(join(first.dir, 'run', 'changes'), { recursive: true })
}

t.test('half an upload is no disk', async (t) => {
  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    t.test(`when nobody has seen it before ${signal}`, async (t) => {
      const upload = await begin(t)
      await sendSome(t, upload.first, upload.ticketId)
      await restart(t, upload, signal)
      t.match(await finalize(upload), /^illegal the image was refused: an upload failed/)
    })
  }

  t.test('when it is finalized before the daemon has its ticket again', async (t) => {
    const upload = await begin(t)
    await sendSome(t, upload.first, upload.ticketId)
    upload.first.process.kill('SIGKILL')
    await upload.first.exited()
    await startDaemon(t, { from: upload.first })
    t.match(await finalize(upload), /^illegal the image was refused: an upload failed/)
  })

  t.test('when something else is read or written', async (t) => {
    const upload = await begin(t)
    await sendSome(t, upload.first, upload.ticketId)
    const second = await restart(t, upload)
    const path = `/images/${upload.ticketId}`
    const headers = { range: 'bytes=0-0' }
    t.equal((await request(second.remote, 'GET', path, { headers })).status, 206)
    t.equal((await put(second, upload.ticketId, 'a')).status, 200)
    t.match(await finalize(upload), /^illegal the image was refused: an upload failed/)
  })

  t.test('when nothing is recorded: all has to come again', async (t) => {
    for (const size of [SIZE - 1, SIZE]) {
      const upload = await begin(t)
      t.equal((await put(upload.first, upload.ticketId, randomBytes(SIZE))).status, 200)
      upload.first.process.kill('SIGKILL')
      await upload.first.exited()
      forget(upload)
      const second = await restart(t, upload)
      t.equal((await put(second, upload.ticketId, randomBytes(size))).status, 200)
      const wanted = size === SIZE ? /^ok$/ : /^illegal .* an upload failed/
      t.match(await finalize(upload), wanted)
    }
  })

  t.test('when nothing can be recorded', async (t) => {
    const upload = await begin(t, {
      prepare: (dir) => writeFileSync(join(dir, 'run', 'changes'), ''),
    })
    await sendSome(t, upload.first, upload.ticketId)
    await restart(t, upload)
    t.match(await finalize(upload), /^illegal .* an upload failed/)
  })

  t.test('when an old image would complete it', async (t) => {
    for (const isForgotten of [false, true]) {
      const upload = await begin(t, { format: 'cow' })
      writeFileSync(upload.file, Buffer.alloc(SIZE, 'old'))
      upload.first.process.kill('SIGKILL')
      await upload.first.exited()
      if (isForgotten) forget(upload)
      const second = await restart(t, upload)
      t.equal((await put(second, upload.ticketId, 'new')).status, 200)
      t.equal(readFileSync(upload.file, 'utf8'), 'new', 'the old one is gone')
    }
  })
})

t.test('half an upload is no disk when its removal was refused and nobody heard it', async (t) => {
  const upload = await begin(t)
  const { first, ticketId } = upload
  await sendSome(t, first, ticketId)
  const path = `/tickets/${ticketId}`
  t.equal((await first.controlRequest('DELETE', `${path}?final=y`)).status, 412)
  t.equal((await first.controlRequest('DELETE', path)).status, 204, 'as when it is forgotten')
  t.match(await finalize(upload), /^illegal the image was refused: an upload failed/)
})

t.test('writes that were lost are no disk', { skip: skipWithoutStrace }, async (t) => {
  const lose = async (t: Test): Promise<Upload> => {
    const upload = await begin(t)
    const { first, ticketId } = upload
    const stop = await failSyncs(t, first)
    t.equal((await put(first, ticketId, randomBytes(SIZE))).status, 500)
    await stop()
    t.match(await first.ticket(ticketId), { broken: true })
    return upload
  }
  const lost = /^illegal the image was refused: writes were lost/

  t.test('when the daemon is killed before anybody knows', async (t) => {
    const upload = await lose(t)
    const second = await restart(t, upload)
    t.match(await second.ticket(upload.ticketId), { broken: true, recalled: true })
    t.equal((await put(second, upload.ticketId, randomBytes(SIZE))).status, 500)
    t.match(await finalize(upload), lost)
  })

  t.test('when the daemon has forgotten the ticket', async (t) => {
    const upload = await lose(t)
    const path = `/tickets/${upload.ticketId}`
    t.equal((await upload.first.controlRequest('DELETE', path)).status, 500)
    t.equal((await upload.first.controlRequest('DELETE', path)).status, 204)
    t.match(await finalize(upload), lost)
  })

  t.test('when closing the image tells of it, as network file systems do', async (t) => {
    const upload = await begin(t)
    const { first, ticketId, file } = upload
    const agent = new Agent({ keepAlive: true })
    t.teardown(() => agent.destroy())
    const body = randomBytes(SIZE)
    const path = `/images/${ticketId}?flush=n`
    t.equal((await request(first.local, 'PUT', path, { body, agent })).status, 200)
    t.ok(await first.holds(file))
    const stop = await failCloses(t, first, file)
    t.match(await finalize(upload), lost)
    await stop()
  })

  t.test('when nobody has flushed them before they are verified', async (t) => {
    const upload = await begin(t)
    t.equal((await put(upload.first, upload.ticketId, randomBytes(SIZE))).status, 200)
    upload.engine.volumes.flushFault = new NotStoredError('the storage failed')
    t.match(await finalize(upload), lost)
    const other = await begin(t)
    t.equal((await put(other.first, other.ticketId, randomBytes(SIZE))).status, 200)
    other.engine.volumes.flushFault = Object.assign(new Error('too many files'), { code: 'EMFILE' })
    t.match(await finalize(other), /^illegal the image cannot be verified: too many files/)
  })

  t.test('when it is paused meanwhile', async (t) => {
    const upload = await lose(t)
    const { engine, id } = upload
    await engine.service.act(id, 'pause')
    await until('it is known', async () => {
      engine.clock.advance(1000)
      return (await engine.service.transfer(id))?.message
    })
    t.match(await finalize(upload), lost)
  })
})

t.test('data that a proxy refused, since they are larger than the disk, are no disk', async (t) => {
  const proxy = await startProxy(t)
  const body = randomBytes(SIZE + 1)
  for (const headers of [{}, { 'transfer-encoding': 'chunked' }]) {
    const upload = await begin(t, { proxy })
    const path = `/images/${upload.ticketId}`
    const reply = await request(proxy.remote, 'PUT', path, { body, headers })
    t.equal(reply.status, 416)
    await upload.first.ticketWhen(upload.ticketId, 'it ended', (info) => !info.active)
    t.match(await finalize(upload), /^illegal the image was refused: an upload failed/)
  }
  for (const where of ['proxy', 'daemon'] as const) {
    const upload = await begin(t, { proxy })
    const path = `/images/${upload.ticketId}`
    t.equal((await request(proxy.remote, 'PUT', path, { body })).status, 416)
    const target = where === 'proxy' ? proxy.remote : upload.first.remote
    const right = await request(target, 'PUT', path, { body: randomBytes(SIZE) })
    t.equal(right.status, 200)
    t.equal(await finalize(upload), 'ok', where)
  }
})

t.test('a request whose body never came to a proxy leaves no disk', async (t) => {
  const proxy = await startProxy(t)
  for (const sendsAgain of [false, true]) {
    const upload = await begin(t, { proxy })
    const wire = await Wire.open(proxy.remote)
    t.teardown(() => wire.destroy())
    const path = `/images/${upload.ticketId}`
    await wire.send(`PUT ${path} HTTP/1.1\r\nHost: h\r\nContent-Length: ${SIZE}\r\n\r\n`)
    await upload.first.ticketWhen(upload.ticketId, 'the daemon knows of it', (info) => info.active)
    wire.destroy()
    await upload.first.ticketWhen(upload.ticketId, 'it ended', (info) => !info.active)
    if (sendsAgain) {
      const body = randomBytes(SIZE)
      t.equal((await request(proxy.remote, 'PUT', path, { body })).status, 200)
    }
    const wanted = sendsAgain ? /^ok$/ : /^illegal the image was refused: an upload failed/
    t.match(await finalize(upload), wanted)
  }
})

t.test('a whole upload is a disk', async (t) => {
  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    t.test(`when chunks of it were cut off by ${signal}, and came again`, async (t) => {
      const upload = await begin(t)
      const wire = await Wire.open(upload.first.remote)
      t.teardown(() => wire.destroy())
      const head = `PUT /images/${upload.ticketId} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n`
      await wire.send(`${head}2\r\nab\r\n`)
      await upload.first.ticketWhen(upload.ticketId, 'it writes', (info) => info.active)
      const second = await restart(t, upload, signal)
      t.equal((await put(second, upload.ticketId, 'abc')).status, 200)
      t.equal(await finalize(upload), 'ok')
    })
  }

  t.test('when its ticket was removed for good and nobody heard that', async (t) => {
    const upload = await begin(t)
    const { first, ticketId } = upload
    t.equal((await put(first, ticketId, randomBytes(SIZE))).status, 200)
    t.equal((await first.controlRequest('DELETE', `/tickets/${ticketId}?final=y`)).status, 204)
    first.process.kill('SIGKILL')
    await first.exited()
    await startDaemon(t, { from: first })
    t.equal(await finalize(upload), 'ok')
  })

  t.test('when it ended after the last look', async (t) => {
    const upload = await begin(t)
    const { engine, first, ticketId } = upload
    await sendSome(t, first, ticketId)
    await until('it is seen', async () => {
      engine.clock.advance(1000)
      return (await engine.service.transfer(upload.id))?.isActive
    })
    t.equal((await put(first, ticketId, randomBytes(SIZE))).status, 200)
    await restart(t, upload)
    t.equal(await finalize(upload), 'ok')
  })

  t.test('when a request of it failed and was sent again, and nobody has seen that', async (t) => {
    const upload = await begin(t)
    const { first, ticketId } = upload
    const digest = { 'content-digest': `sha-256=:${Buffer.alloc(32).toString('base64')}:` }
    t.equal((await put(first, ticketId, randomBytes(SIZE), digest)).status, 400)
    t.equal((await put(first, ticketId, randomBytes(SIZE))).status, 200)
    await restart(t, upload)
    t.equal(await finalize(upload), 'ok')
  })

  t.test('when many requests of it were cut off', async (t) => {
    const upload = await begin(t)
    const { first, ticketId } = upload
    const digest = { 'content-digest': `sha-256=:${Buffer.alloc(32).toString('base64')}:` }
    const piece = (index: number) => ({ 'content-range': `bytes ${index * 512}-*/*` })
    for (let index = 0; index < 128; index += 1) {
      const headers = { ...piece(index), ...(index % 2 === 0 ? digest : {}) }
      await put(first, ticketId, Buffer.alloc(512, 'x'), headers)
    }
    const second = await restart(t, upload)
    t.equal((await second.ticket(ticketId)).unfinished, 64 * 512)
    for (let index = 0; index < 128; index += 2) {
      await put(second, ticketId, Buffer.alloc(512, 'x'), piece(index))
    }
    t.equal(await finalize(upload), 'ok')
  })

  t.test('when the daemon has forgotten the ticket in the meantime', async (t) => {
    const upload = await begin(t)
    t.equal((await put(upload.first, upload.ticketId, randomBytes(SIZE))).status, 200)
    await upload.first.controlRequest('DELETE', `/tickets/${upload.ticketId}`)
    t.equal(await finalize(upload), 'ok')
  })
})
