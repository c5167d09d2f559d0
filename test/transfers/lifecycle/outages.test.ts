/** Daemons, proxies and NBD servers that go away, and come back. */
import { randomBytes } from 'node:crypto'
import { createServer } from 'node:net'
import t from 'tap'
import { HostUnreachableError, TicketUnfinishedError } from '../../../transfers/hosts/errors.js'
import type { TicketState } from '../../../transfers/hosts/ticket-control.js'
import { startDaemon } from '../../support/daemon.js'
import { request } from '../../support/http.js'
import { startProxy } from '../../support/proxy.js'
import { testPki } from '../../support/pki.js'
import { until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'
import { startEngine } from '../engine.js'

const SIZE = 65536

t.test('a daemon that was started again gets the ticket again, with its id', async (t) => {
  const first = await startDaemon(t)
  const engine = await startEngine(t, { daemon: first })
  const { id: diskId } = await engine.addDisk()
  const before = await engine.transferring({ diskId })
  const path = new URL(before.transferUrl!).pathname
  const half = randomBytes(SIZE / 2)
  await request(first.remote, 'PUT', path, { body: half })
  await until('progress is stored', async () => {
    engine.clock.advance(1000)
    return (await engine.service.transfer(before.id))?.transferred === SIZE / 2
  })
  await first.stop()
  await engine.pass(5)
  t.match(await engine.service.transfer(before.id), { phase: 'transferring' })
  const second = await startDaemon(t, { from: first })
  await until('the ticket is back', async () => {
    engine.clock.advance(1000)
    const { status } = await second.controlRequest('GET', `/tickets/${before.ticketId!}`)
    return status === 200
  })
  const reply = await request(second.remote, 'PUT', path, { body: randomBytes(SIZE) })
  t.equal(reply.status, 200, 'the URL of the client is still good')
  const after = await until('progress goes on', async () => {
    engine.clock.advance(1000)
    const transfer = await engine.service.transfer(before.id)
    return transfer?.transferred === SIZE && transfer
  })
  t.match(after, { phase: 'transferring', ticketId: before.ticketId })
  t.match(engine.logText(), /had lost the ticket/)
})

t.test('what was transferred is known after a restart of service and daemon', async (t) => {
  const before = await startDaemon(t)
  const engine = await startEngine(t, { daemon: before })
  const { id: diskId } = await engine.addDisk()
  const { id, transferUrl } = await engine.transferring({ diskId })
  const { pathname } = new URL(transferUrl!)
  await request(before.remote, 'PUT', pathname, { body: randomBytes(SIZE / 2) })
  await until('progress is stored', async () => {
    engine.clock.advance(1000)
    return (await engine.service.transfer(id))?.transferred === SIZE / 2
  })
  await engine.stop()
  await before.stop()
  const daemon = await startDaemon(t, { from: before })
  const next = await startEngine(t, { daemon, from: engine })
  await until('the ticket is back', async () => {
    next.clock.advance(1000)
    const { status } = await daemon.controlRequest('GET', pathname.replace('images', 'tickets'))
    return status === 200
  })
  await request(daemon.remote, 'PUT', pathname, { body: randomBytes(SIZE / 4) })
  await next.pass(5)
  const { transferred } = await next.inPhase(id, 'transferring')
  t.equal(transferred, SIZE / 2, 'never less than before')
  await next.service.act(id, 'finalize')
  const { transferred: last } = await next.inPhase(id, 'finished_success')
  t.equal(last, SIZE / 2)
})

t.test('a host out of reach for long pauses an upload, and resume continues it', async (t) => {
  const first = await startDaemon(t)
  const engine = await startEngine(t, { daemon: first, timers: { graceMs: 5000 } })
  const { id: diskId } = await engine.addDisk()
  const { id, ticketId } = await engine.transferring({ diskId })
  await first.stop()
  const paused = await engine.inPhase(id, 'paused_system')
  t.match(paused.message, /out of reach/)
  const lines = engine
    .logText()
    .split('\n')
    .filter((line) => line.includes('does not tell of'))
  t.match(lines, [/"reason":"cannot talk to/])
  t.notMatch(lines[0], '"err"', 'its text once')
  const other = await engine.addDisk()
  const given = await engine.addTransfer({ diskId: other.id })
  await engine.inPhase(given.id, 'paused_system')
  await engine.service.act(given.id, 'cancel')
  t.equal((await engine.service.transfer(given.id))?.message, undefined, 'a user ended it')
  await engine.service.act(id, 'resume')
  await engine.inPhase(id, 'paused_system')
  const second = await startDaemon(t, { from: first })
  await engine.service.act(id, 'resume')
  await engine.inPhase(id, 'transferring')
  t.equal((await second.ticket(ticketId!)).uuid, ticketId)
})

t.test('a host out of reach for long ends a download, once it can be told so', async (t) => {
  const first = await startDaemon(t)
  const engine = await startEngine(t, { daemon: first, timers: { graceMs: 5000 } })
  const { id: diskId } = await engine.addDisk()
  const { id } = await engine.transferring({ diskId, direction: 'download' })
  await first.stop()
  await engine.inPhase(id, 'finalizing_failure')
  await engine.pass(20)
  t.match(await engine.service.transfer(id), { phase: 'finalizing_failure' })
  t.match(await engine.service.disk(diskId), { status: 'locked' })
  await startDaemon(t, { from: first })
  await engine.inPhase(id, 'finished_failure')
  t.match(await engine.service.disk(diskId), { status: 'ok', lockedBy: undefined })
})

t.test('nothing is verified while somebody may still write', async (t) => {
  const first = await startDaemon(t)
  const engine = await startEngine(t, { daemon: first })
  const { id: diskId } = await engine.addDisk()
  const { id } = await engine.transferring({ diskId })
  await first.stop()
  await engine.service.act(id, 'finalize')
  await engine.inPhase(id, 'finalizing_success')
  await engine.pass(100)
  t.same(engine.verifier.asked, [])
  t.match(await engine.service.transfer(id), { phase: 'finalizing_success' })
  await startDaemon(t, { from: first })
  await engine.inPhase(id, 'finished_success')
  t.same(engine.verifier.asked, [diskId])
})

t.test('what the daemon knows of the ticket is asked before it is removed', async (t) => {
  const daemon = await startDaemon(t)
  const engine = await startEngine(t, { daemon })
  const { id: diskId } = await engine.addDisk()
  const { id } = await engine.transferring({ diskId })
  const host = engine.hosts.get('host')!
  const removed: boolean[] = []
  let state = (): Partial<TicketState> => {
    throw new HostUnreachableError('no answer in time')
  }
  Object.assign(host, {
    tickets: {
      problem: async () => undefined,
      state: async () => state(),
      removeForGood: async (_: string, { knowsLoss }: { knowsLoss: boolean }) => {
        removed.push(knowsLoss)
        // As the daemon has it: told as often as it is not known.
        if (!knowsLoss) throw new TicketUnfinishedError('writes were lost')
      },
    },
  })
  await engine.service.act(id, 'finalize')
  await engine.inPhase(id, 'finalizing_success')
  await engine.pass(20)
  t.same(removed, [], 'nothing is known while it does not answer')
  state = () => ({ isBroken: removed.length > 0 })
  await engine.inPhase(id, 'finished_failure')
  t.same(removed, [false, true])
  t.match(await engine.service.disk(diskId), { status: 'illegal' })
  t.same(engine.verifier.asked, [])
})

t.test('finalize waits for a request that is under way, but not for ever', async (t) => {
  const daemon = await startDaemon(t)
  const engine = await startEngine(t, { daemon })
  for (const ends of [true, false]) {
    const { id: diskId } = await engine.addDisk()
    const { id, ticketId } = await engine.transferring({ diskId })
    const upload = await Wire.open(daemon.remote)
    t.teardown(() => upload.destroy())
    const head = `PUT /images/${ticketId!} HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n`
    await upload.send(`${head}ab`)
    await daemon.ticketWhen(ticketId!, 'it writes', (info) => info.active)
    await engine.service.act(id, 'finalize')
    await engine.pass(20)
    t.match(await engine.service.transfer(id), { phase: 'finalizing_success' })
    if (ends) {
      await upload.send('cd')
      t.equal((await upload.response()).status, 200)
      await engine.inPhase(id, 'finished_success')
    } else {
      const ended = await engine.inPhase(id, 'finished_failure')
      t.match(ended.message, /still under way/)
    }
    t.match(await engine.service.disk(diskId), { status: ends ? 'ok' : 'illegal' })
  }
})

t.test(
  'a proxy that has lost the ticket gets it again; one that is down is no obstacle',
  async (t) => {
    const daemon = await startDaemon(t)
    const first = await startProxy(t)
    const engine = await startEngine(t, { daemon, proxy: first })
    const { id: diskId } = await engine.addDisk()
    const { id, proxyUrl, transferUrl, ticketId } = await engine.transferring({ diskId })
    t.equal(new URL(proxyUrl!).origin, new URL(first.url).origin)
    t.not(proxyUrl, transferUrl)
    const path = new URL(proxyUrl!).pathname
    const body = randomBytes(SIZE)
    t.equal((await request(first.remote, 'PUT', path, { body })).status, 200)
    t.match(await first.ticket(ticketId!), { url: transferUrl })
    await first.controlRequest('DELETE', `/tickets/${ticketId!}`)
    await until('the proxy has the ticket again', async () => {
      engine.clock.advance(1000)
      return (await first.controlRequest('GET', `/tickets/${ticketId!}`)).status === 200
    })
    await first.stop()
    await engine.pass(30)
    const other = await engine.addDisk()
    t.ok((await engine.transferring({ diskId: other.id })).transferUrl)
    await engine.service.act(id, 'finalize')
    await engine.inPhase(id, 'finished_success')
  },
)

t.test('a proxy that refuses the ticket is not shown, until it takes it', async (t) => {
  const daemon = await startDaemon(t)
  const proxy = await startProxy(t, { proxy: { allowed_daemons: 'elsewhere:1' } })
  const engine = await startEngine(t, { daemon, proxy })
  const { id: diskId } = await engine.addDisk()
  const { id, proxyUrl, transferUrl } = await engine.transferring({ diskId })
  t.ok(transferUrl)
  t.equal(proxyUrl, undefined)
  t.match(engine.logText(), /"reason":"400 .*"msg":"the proxy has no ticket"/)
  await proxy.stop()
  await engine.pass(30)
  t.equal((await engine.service.transfer(id))?.proxyUrl, undefined)
  const willing = { proxy: { allowed_daemons: '127.0.0.1:*', use_local_socket: false } }
  await startDaemon(t, { program: 'imageio-proxy', config: willing, from: proxy })
  await until('it takes the ticket', async () => {
    engine.clock.advance(1000)
    return (await engine.service.transfer(id))?.proxyUrl
  })
})

t.test('that the proxy has no ticket is told once, and that it has one again', async (t) => {
  const daemon = await startDaemon(t)
  const options = {
    program: 'imageio-proxy',
    config: {
      backend_http: { ca_file: testPki().caFile },
      proxy: { allowed_daemons: '127.0.0.1:*', use_local_socket: false },
    },
  } as const
  const first = await startDaemon(t, options)
  const engine = await startEngine(t, { daemon, proxy: first })
  const { id: diskId } = await engine.addDisk()
  const { id, ticketId } = await engine.transferring({ diskId })
  const told = (text: string) =>
    engine
      .logText()
      .split('\n')
      .filter((line) => line.includes(text))
  await first.stop()
  let attempts = 0
  const mute = createServer((socket) => {
    attempts++
    socket.destroy()
  }).listen(first.controlSocket)
  await until('some attempts', () => {
    engine.clock.advance(1000)
    return attempts > 6
  })
  mute.close()
  t.equal(told('the proxy has no ticket').length, 1)
  t.match(told('the proxy has no ticket')[0], /"reason":"cannot talk to the proxy at /)
  t.notMatch(told('the proxy has no ticket')[0], /"stack"/)
  const again = await startDaemon(t, { ...options, from: first })
  await until('the proxy has the ticket', () => {
    engine.clock.advance(1000)
    return told('the proxy has the ticket').length > 0
  })
  t.equal((await again.controlRequest('GET', `/tickets/${ticketId!}`)).status, 200)
  t.equal(told('the proxy has the ticket').length, 1)
  await engine.service.act(id, 'finalize')
  await engine.inPhase(id, 'finished_success')
})

t.test('format raw is an NBD server, which is started again when it dies', async (t) => {
  const daemon = await startDaemon(t)
  const engine = await startEngine(t, { daemon, timers: { graceMs: 3_600_000 } })
  const { id: diskId } = await engine.addDisk({ format: 'cow' })
  const { id, ticketId, size } = await engine.transferring({ diskId, format: 'raw' })
  t.match(await daemon.ticket(ticketId!), { url: `nbd:unix:/nonexistent/${id}.sock`, size })
  t.equal(size, SIZE)
  for (let times = 1; times <= 3; times++) {
    engine.nbd.alive.clear()
    await until('it is started again', () => {
      engine.clock.advance(1000)
      return engine.nbd.started.length === times + 1
    })
  }
  engine.nbd.alive.clear()
  const paused = await engine.inPhase(id, 'paused_system')
  t.match(paused.message, /NBD server/)
  await engine.service.act(id, 'resume')
  await engine.inPhase(id, 'transferring')
  await engine.service.act(id, 'finalize')
  await engine.inPhase(id, 'finished_success')
  t.equal(engine.nbd.alive.size, 0)
})

t.test('an NBD server that does not start pauses an upload and ends a download', async (t) => {
  const daemon = await startDaemon(t)
  const engine = await startEngine(t, { daemon })
  engine.nbd.fault = new Error('qemu-nbd is missing')
  const cow = { format: 'cow' } as const
  const [one, two] = [await engine.addDisk(cow), await engine.addDisk(cow)]
  const up = await engine.addTransfer({ diskId: one.id, format: 'raw' })
  const down = await engine.addTransfer({ diskId: two.id, format: 'raw', direction: 'download' })
  t.match((await engine.inPhase(up.id, 'paused_system')).message, /qemu-nbd is missing/)
  t.match((await engine.inPhase(down.id, 'finished_failure')).message, /qemu-nbd is missing/)
  t.match(await engine.service.disk(two.id), { status: 'ok', lockedBy: undefined })
  engine.nbd.fault = undefined
  await engine.service.act(up.id, 'resume')
  await engine.inPhase(up.id, 'transferring')
})

t.test(
  'a volume that cannot be opened ends the transfer, and keeps what the disk had',
  async (t) => {
    const daemon = await startDaemon(t)
    const engine = await startEngine(t, { daemon })
    const [fresh, full] = [await engine.addDisk(), await engine.addDisk()]
    const first = await engine.transferring({ diskId: full.id })
    await engine.service.act(first.id, 'finalize')
    await engine.inPhase(first.id, 'finished_success')
    engine.volumes.factsFault = new Error('input/output error')
    const lost = await engine.addTransfer({ diskId: fresh.id })
    const kept = await engine.addTransfer({ diskId: full.id })
    const failed = await engine.inPhase(lost.id, 'finished_failure')
    t.match(failed, { message: /input\/output error/, ticketId: undefined })
    await engine.inPhase(kept.id, 'finished_failure')
    await until('the fresh disk is gone', async () => !(await engine.service.disk(fresh.id)))
    t.match(await engine.service.disk(full.id), { status: 'ok', lockedBy: undefined })
    t.ok(engine.volumes.has(full.id))
  },
)
