/**
 * Random walks: clients do anything at any time, daemon and service are stopped and started, images are
 * good or bad. Whatever happens, disk and transfer agree, and all come to an end when they are let.
 */
import t from 'tap'
import { startDaemon, type Daemon } from '../../support/daemon.js'
import { until } from '../../support/wait.js'
import { isFinal } from '../../../transfers/lifecycle/phases.js'
import type { TransferAction } from '../../../transfers/model.js'
import { startEngine, type Engine } from '../engine.js'

const WALKS = 12
const STEPS = 25
const ACTIONS: readonly TransferAction[] = ['extend', 'pause', 'resume', 'cancel', 'finalize']

t.test('walks of clients, outages and restarts', async (t) => {
  const random = generator(7)
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)]!
  let daemon: Daemon = await startDaemon(t)
  let engine: Engine = await startEngine(t, { daemon, timers: { graceMs: 3000 } })
  const restartEngine = async (): Promise<void> => {
    const before = engine
    await before.stop()
    engine = await startEngine(t, { daemon, timers: { graceMs: 3000 }, from: before })
  }
  for (let walk = 0; walk < WALKS; walk++) {
    await until('the host is up', () => {
      engine.clock.advance(1000)
      return engine.service.hosts().some(({ isUp }) => isUp)
    })
    const { id: diskId } = await engine.addDisk({ id: `disk-${walk}`, format: 'cow' })
    const { id } = await engine.addTransfer({
      diskId,
      direction: pick(['upload', 'upload', 'download'] as const),
      format: pick(['raw', undefined] as const),
      timeoutPolicy: pick(['legacy', 'pause', 'cancel'] as const),
      inactivityTimeout: pick([0, 60]),
    })
    for (let step = 0; step < STEPS; step++) {
      const what = random()
      if (what < 0.35) await act(engine, id, pick(ACTIONS.slice(0, step < STEPS / 2 ? 3 : 5)))
      else if (what < 0.75) await engine.pass(Math.ceil(random() * 5))
      else if (what < 0.8) await restartEngine()
      else if (what < 0.84) {
        await daemon.stop()
        await engine.pass(Math.ceil(random() * 6))
        daemon = await startDaemon(t, { from: daemon })
      } else if (what < 0.9) engine.nbd.alive.clear()
      else engine.verifier.verdict = pick([{ ok: true }, { ok: false, reason: 'by chance' }])
      await agree(engine, id, diskId, `walk ${walk}, step ${step}`)
    }
    await act(engine, id, 'cancel')
    for (let tries = 0; tries < 500; tries++) {
      const transfer = await engine.service.transfer(id)
      if (transfer === undefined || isFinal(transfer.phase)) break
      engine.clock.advance(1000)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    const phase = (await engine.service.transfer(id))?.phase
    t.ok(phase === undefined || isFinal(phase), `walk ${walk} ends, as ${String(phase)}`)
    await agree(engine, id, diskId, `walk ${walk}, at its end`)
    t.equal(engine.nbd.alive.has(id), false, 'no server is left')
  }
  t.same((await daemon.controlRequest('GET', '/tickets')).json, [], 'no ticket is left')

  async function agree(engine: Engine, id: string, diskId: string, when: string): Promise<void> {
    const [transfer, disk] = await engine.store.transaction(async (records) => [
      await records.transfer(id),
      await records.disk(diskId),
    ])
    if (transfer === undefined) return
    if (!isFinal(transfer.phase)) {
      if (disk?.lockedBy !== id) t.fail(`${when}: no lock in ${transfer.phase}`)
      if (disk?.status === 'ok' && transfer.phase !== 'finished_cleanup') t.fail(`${when}: ok`)
      return
    }
    if (disk?.lockedBy === id) t.fail(`${when}: still locked in ${transfer.phase}`)
    if (transfer.ticketId !== undefined) t.fail(`${when}: a ticket in ${transfer.phase}`)
    const { direction, phase } = transfer
    if (direction === 'download') {
      if (disk?.status !== 'ok') t.fail(`${when}: a download has changed its disk`)
    } else if (phase === 'finished_success' && disk?.status !== 'ok') t.fail(`${when}: not ok`)
    else if (phase === 'finished_failure' && disk?.status === 'ok')
      t.fail(`${when}: ok, but failed`)
    else if (phase === 'finished_failure' && engine.volumes.has(diskId) !== (disk !== undefined)) {
      t.fail(`${when}: volume and disk disagree`)
    }
  }
})

/** Refusals are answers like others. */
async function act(engine: Engine, id: string, action: TransferAction): Promise<void> {
  await engine.service.act(id, action).catch((error: unknown) => {
    if ((error as { code?: string }).code !== 'ERR_TRANSFER_FAULT') throw error
  })
}

/** With a seed, so that a failing walk is walked again. */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}
