/** Several processes on one database: who drives a transfer, and who takes over. */
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { PostgresStore } from '../../../transfers/store/postgres-store.js'
import { SqliteStore } from '../../../transfers/store/sqlite-store.js'
import type { Store } from '../../../transfers/store/store.js'
import { startDaemon } from '../../support/daemon.js'
import { startPostgres, withoutPostgres } from '../../support/postgres.js'
import { until } from '../../support/wait.js'
import { startEngine } from '../engine.js'
import { NamedServers } from '../storage.js'

async function takeOver(t: Test, dir: string, openStore: () => Promise<Store>): Promise<void> {
  const daemon = await startDaemon(t)
  const a = await startEngine(t, { daemon, name: 'a', openStore, dir })
  const b = await startEngine(t, { daemon, name: 'b', openStore, from: a })
  const { id: diskId } = await a.addDisk()
  const { id, ticketId } = await a.transferring({ diskId })
  const seen = new Set<unknown>()
  b.service.watch(id, (transfer) => seen.add(transfer?.phase))
  await b.service.act(id, 'pause')
  await b.service.act(id, 'resume')
  const resumed = await a.inPhase(id, 'transferring')
  t.equal(resumed.ticketId, ticketId)
  await until('b has told of it', () => {
    a.clock.advance(1000)
    return seen.has('transferring')
  })
  await a.stop()
  await b.service.act(id, 'finalize')
  await until('b goes on', async () => {
    b.clock.advance(60_000)
    return (await b.service.transfer(id))?.phase === 'finished_success'
  })
  t.match(await b.service.disk(diskId), { status: 'ok', lockedBy: undefined })
}

t.test('another instance serves clients, and takes over when the first is gone', async (t) => {
  const dir = t.testdir()
  await takeOver(t, dir, () => SqliteStore.open(join(dir, 'transfers.sqlite')))
})

t.test('instances that share PostgreSQL do the same', { skip: withoutPostgres() }, async (t) => {
  const { url } = startPostgres(t)
  await takeOver(t, t.testdir(), () => PostgresStore.open(url))
})

t.test('a second process of one name drives, the first one stops', async (t) => {
  const daemon = await startDaemon(t)
  const dir = t.testdir()
  const openStore = () => SqliteStore.open(join(dir, 'transfers.sqlite'))
  const a = await startEngine(t, { daemon, openStore, dir })
  const { id: diskId } = await a.addDisk()
  const { id } = await a.transferring({ diskId })
  const b = await startEngine(t, { daemon, openStore, from: a })
  await until('a knows', () => {
    a.clock.advance(3_600_000 / 5)
    return a.logText().includes('another process has taken its name')
  })
  await b.service.act(id, 'finalize')
  await b.inPhase(id, 'finished_success')
  t.same(a.verifier.asked, [diskId], 'once')
})

t.test('what a process that stood still has begun it takes back when it wakes', async (t) => {
  const daemon = await startDaemon(t)
  const dir = t.testdir()
  const openStore = () => SqliteStore.open(join(dir, 'transfers.sqlite'))
  const a = await startEngine(t, { daemon, openStore, dir })
  const { nbd } = a
  if (!(nbd instanceof NamedServers)) throw new Error('the servers of this test are names')
  const { id: diskId } = await a.addDisk({ format: 'cow' })
  const standing = Promise.withResolvers<undefined>()
  const starts = { count: 0 }
  nbd.whenStarted = () => (starts.count++ === 0 ? standing.promise : Promise.resolve())
  const { id } = await a.addTransfer({ diskId, format: 'raw' })
  await until('it starts a server', () => starts.count === 1)
  const b = await startEngine(t, { daemon, openStore, from: a })
  await until('a knows', () => {
    a.clock.advance(3_600_000 / 5)
    return a.logText().includes('another process has taken its name')
  })
  standing.resolve(undefined)
  await until('a has ended it', () => nbd.stopped.includes(id))
  await b.stop()
})
