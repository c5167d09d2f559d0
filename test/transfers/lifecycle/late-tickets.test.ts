/** Installations of tickets that arrive when nobody waits for them any more. */
import { randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import { startDaemon, type Daemon } from '../../support/daemon.js'
import { request } from '../../support/http.js'
import { until } from '../../support/wait.js'
import { startEngine, type Engine } from '../engine.js'
import { LateRelay } from '../late-relay.js'

async function startLate(
  t: Test,
  daemon: Daemon,
): Promise<{ readonly engine: Engine; readonly relay: LateRelay }> {
  const relay = await LateRelay.start(t, daemon.controlSocket)
  const between = { controlSocket: relay.socketPath, url: daemon.url }
  return { relay, engine: await startEngine(t, { daemon: between, controlTimeoutMs: 300 }) }
}

t.test('a first ticket that comes late opens nothing, whenever it comes', async (t) => {
  const daemon = await startDaemon(t)
  const { engine, relay } = await startLate(t, daemon)
  const { id: diskId } = await engine.addDisk()
  relay.isHolding = true
  const { id } = await engine.addTransfer({ diskId })
  const paused = await engine.inPhase(id, 'paused_system')
  t.equal(paused.transferUrl, undefined, 'nobody was told of it')
  relay.isHolding = false
  await engine.service.act(id, 'resume')
  const resumed = await engine.inPhase(id, 'transferring')
  t.not(resumed.ticketId, paused.ticketId, 'another one')
  await engine.service.act(id, 'finalize')
  await engine.inPhase(id, 'finished_success')
  t.match(await engine.service.disk(diskId), { status: 'ok' })
  t.same(await relay.deliver(), ['HTTP/1.1 410 Gone'])
  const path = `/images/${paused.ticketId!}`
  t.equal((await request(daemon.remote, 'PUT', path, { body: randomBytes(512) })).status, 403)
})

t.test('a ticket that comes again after its disk is ok stays away', async (t) => {
  const first = await startDaemon(t)
  const { engine, relay } = await startLate(t, first)
  const { id: diskId } = await engine.addDisk()
  const { id, ticketId, transferUrl } = await engine.transferring({ diskId })
  relay.isHolding = true
  await first.stop()
  const second = await startDaemon(t, { from: first })
  await until('the ticket was sent again', async () => {
    engine.clock.advance(1000)
    return /the daemon has lost the ticket/.test(engine.logText())
  })
  await relay.whenHeld()
  relay.isHolding = false
  await engine.service.act(id, 'finalize')
  await engine.inPhase(id, 'finished_success')
  t.match(await engine.service.disk(diskId), { status: 'ok' })
  const answers = await relay.deliver()
  t.ok(answers.length > 0)
  t.same(new Set(answers), new Set(['HTTP/1.1 410 Gone']))
  const { pathname } = new URL(transferUrl!)
  t.equal(pathname, `/images/${ticketId!}`)
  const body = randomBytes(512)
  t.equal((await request(second.remote, 'PUT', pathname, { body })).status, 403)
})
