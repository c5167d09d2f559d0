/** Uploads that are finalized though an upload failed or was cut off, and never sent again. */
import t, { type Test } from 'tap'
import { startDaemon, type Daemon } from '../../support/daemon.js'
import { request } from '../../support/http.js'
import { until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'
import { startEngine, type Engine } from '../engine.js'

interface Upload {
  readonly diskId: string
  readonly id: string
  readonly ticketId: string
  readonly wire: Wire
}

/** A transfer with a PUT of which half has come. */
async function half(t: Test, engine: Engine, daemon: Daemon): Promise<Upload> {
  const { id: diskId } = await engine.addDisk()
  const { id, ticketId = '' } = await engine.transferring({ diskId })
  return { diskId, id, ticketId, wire: await sendHalf(t, daemon, ticketId) }
}

async function sendHalf(t: Test, daemon: Daemon, ticketId: string): Promise<Wire> {
  const wire = await Wire.open(daemon.remote)
  t.teardown(() => wire.destroy())
  await wire.send(`PUT /images/${ticketId} HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab`)
  await daemon.ticketWhen(ticketId, 'it writes', (info) => info.active)
  return wire
}

t.test('half an upload is no disk', async (t) => {
  const daemon = await startDaemon(t)
  const engine = await startEngine(t, { daemon })
  const refused = async ({ id, diskId }: Upload): Promise<void> => {
    const ended = await engine.inPhase(id, 'finished_failure')
    t.match(ended.message, /^the image was refused: an upload failed or was cut off/)
    t.match(await engine.service.disk(diskId), { status: 'illegal' })
  }

  t.test('when its client went and finalized', async () => {
    const upload = await half(t, engine, daemon)
    upload.wire.destroy()
    await daemon.ticketWhen(upload.ticketId, 'it has gone', (info) => !info.active)
    await engine.service.act(upload.id, 'finalize')
    await refused(upload)
  })

  t.test('when its client goes while finalize waits for it', async (t) => {
    const upload = await half(t, engine, daemon)
    await engine.service.act(upload.id, 'finalize')
    await engine.pass(5)
    t.match(await engine.service.transfer(upload.id), { phase: 'finalizing_success' })
    upload.wire.destroy()
    await refused(upload)
  })

  t.test('when it began after the last look at the ticket', async (t) => {
    const { id: diskId } = await engine.addDisk()
    const { id, ticketId = '' } = await engine.transferring({ diskId })
    const { tickets } = engine.hosts.get('host')!
    const wires: Wire[] = []
    const removeForGood = tickets.removeForGood.bind(tickets)
    tickets.removeForGood = async (...args) => {
      if (wires.length === 0) wires.push(await sendHalf(t, daemon, ticketId))
      return removeForGood(...args)
    }
    t.teardown(() => (tickets.removeForGood = removeForGood))
    await engine.service.act(id, 'finalize')
    const ended = await engine.inPhase(id, 'finished_failure')
    t.match(ended.message, /an upload failed or was cut off/)
    t.match(await engine.service.disk(diskId), { status: 'illegal' })
  })

  t.test('when the daemon was started again since', async (t) => {
    const first = await startDaemon(t)
    const other = await startEngine(t, { daemon: first })
    const { wire, id, ticketId } = await half(t, other, first)
    wire.destroy()
    await first.ticketWhen(ticketId, 'it has gone', (info) => !info.active)
    await first.stop()
    const second = await startDaemon(t, { from: first })
    await until('the ticket is back', async () => {
      other.clock.advance(1000)
      return (await second.controlRequest('GET', `/tickets/${ticketId}`)).status === 200
    })
    await other.service.act(id, 'finalize')
    t.match(
      (await other.inPhase(id, 'finished_failure')).message,
      /an upload failed or was cut off/,
    )
  })

  for (const phase of ['transferring', 'paused_user'] as const) {
    t.test(`when its daemon is gone, ${phase}, and has the ticket no more`, async (t) => {
      const first = await startDaemon(t)
      const other = await startEngine(t, { daemon: first })
      const { wire, id, ticketId } = await half(t, other, first)
      wire.destroy()
      await first.ticketWhen(ticketId, 'it has gone', (info) => !info.active)
      if (phase === 'paused_user') await other.service.act(id, 'pause')
      await first.stop()
      if (phase === 'paused_user') await other.pass(5)
      await other.service.act(id, 'finalize')
      await startDaemon(t, { from: first })
      t.match(
        (await other.inPhase(id, 'finished_failure')).message,
        /an upload failed or was cut off/,
      )
    })
  }

  for (const isSentAgain of [false, true]) {
    const what = isSentAgain ? ', unless something came again' : ''
    t.test(`when its daemon was killed under it${what}`, async (t) => {
      const first = await startDaemon(t)
      const other = await startEngine(t, { daemon: first })
      const { id, ticketId } = await half(t, other, first)
      await until('it is known to be active', async () => {
        other.clock.advance(1000)
        return (await other.service.transfer(id))?.isActive
      })
      first.process.kill('SIGKILL')
      await first.exited()
      const second = await startDaemon(t, { from: first })
      await until('the ticket is back', async () => {
        other.clock.advance(1000)
        return (await second.controlRequest('GET', `/tickets/${ticketId}`)).status === 200
      })
      if (isSentAgain) await request(second.remote, 'PUT', `/images/${ticketId}`, { body: 'abcd' })
      await other.service.act(id, 'finalize')
      await other.inPhase(id, isSentAgain ? 'finished_success' : 'finished_failure')
    })
  }

  t.test('unless the client sends it again', async (t) => {
    const upload = await half(t, engine, daemon)
    upload.wire.destroy()
    await daemon.ticketWhen(upload.ticketId, 'it has gone', (info) => !info.active)
    const again = await request(daemon.remote, 'PUT', `/images/${upload.ticketId}`, {
      body: 'abcd',
    })
    t.equal(again.status, 200)
    await engine.service.act(upload.id, 'finalize')
    await engine.inPhase(upload.id, 'finished_success')
    t.match(await engine.service.disk(upload.diskId), { status: 'ok' })
  })

  t.test('and it is whole when others wrote all while the first one hung', async (t) => {
    const upload = await half(t, engine, daemon)
    const again = await request(daemon.remote, 'PUT', `/images/${upload.ticketId}`, {
      body: 'abcd',
    })
    t.equal(again.status, 200)
    await engine.service.act(upload.id, 'finalize')
    await engine.inPhase(upload.id, 'finished_success')
  })

  t.test('and who cancels it need not know', async () => {
    const { id } = await half(t, engine, daemon)
    await engine.service.act(id, 'cancel')
    await engine.inPhase(id, 'cancelled_user')
  })
})

t.test('a disk stays as it was when its transfer never had a session', async (t) => {
  const daemon = await startDaemon(t)
  const engine = await startEngine(t, { daemon })
  const { id: diskId } = await engine.addDisk({ format: 'cow' })
  const { id: first } = await engine.transferring({ diskId })
  await engine.service.act(first, 'finalize')
  await engine.inPhase(first, 'finished_success')
  await daemon.stop()
  const { id } = await engine.addTransfer({ diskId })
  await engine.inPhase(id, 'paused_system')
  await engine.service.act(id, 'cancel')
  await startDaemon(t, { from: daemon })
  await engine.inPhase(id, 'finished_failure')
  t.match(await engine.service.disk(diskId), { status: 'ok' })
  t.ok(engine.volumes.has(diskId))
})
