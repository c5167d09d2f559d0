/** Disks that are made, changed, grown and removed, without a transfer. */
import { join } from 'node:path'
import t from 'tap'
import { startDaemon } from '../../support/daemon.js'
import { until } from '../../support/wait.js'
import { SqliteStore } from '../../../transfers/store/sqlite-store.js'
import { startEngine } from '../engine.js'

const SIZE = 65536

const fault = (statusCode: number) => ({ code: 'ERR_TRANSFER_FAULT', statusCode })
const CONFLICT = fault(409)
const MISSING = fault(404)

const daemon = await startDaemon(t)

t.test('a disk whose volume cannot be made disappears', async (t) => {
  const engine = await startEngine(t, { daemon })
  engine.volumes.creationFault = new Error('no space left')
  await t.rejects(engine.addDisk({ id: 'd1' }), /no space left/)
  t.equal(await engine.service.disk('d1'), undefined)
  engine.volumes.creationFault = undefined
  await engine.addDisk({ id: 'd1' })
  t.match(await engine.service.disk('d1'), { status: 'ok' })
})

t.test('a disk gets another name, and grows', async (t) => {
  const engine = await startEngine(t, { daemon })
  await engine.addDisk({ id: 'd1', provisionedSize: SIZE })
  const { service } = engine
  t.match(await service.changeDisk('d1', { name: 'other', description: 'why' }), { name: 'other' })
  const grown = await service.changeDisk('d1', { provisionedSize: 2 * SIZE, wipeAfterDelete: true })
  t.match(grown, { provisionedSize: 2 * SIZE, wipeAfterDelete: true, status: 'ok', name: 'other' })
  t.match(await service.disk('d1'), { lockedBy: undefined, pending: undefined, owner: undefined })
  t.equal((await engine.volumes.facts(grown)).length, 2 * SIZE)
})

t.test('of a change that is refused or fails nothing is done', async (t) => {
  const engine = await startEngine(t, { daemon })
  await engine.addDisk({ id: 'd1', provisionedSize: SIZE })
  const { service } = engine
  const before = await service.disk('d1')
  await t.rejects(service.changeDisk('missing', { name: 'x' }), MISSING)
  await t.rejects(service.changeDisk('d1', { name: 'x', provisionedSize: SIZE - 1 }), CONFLICT)
  await t.rejects(service.changeDisk('d1', { name: 'x', backup: 'incremental' }), CONFLICT)
  engine.volumes.fault = new Error('no space left')
  await t.rejects(service.changeDisk('d1', { name: 'x', provisionedSize: 2 * SIZE }), /no space/)
  engine.volumes.fault = undefined
  t.same(await service.disk('d1'), before)

  const { id } = await engine.transferring({ diskId: 'd1' })
  await t.rejects(service.changeDisk('d1', { name: 'x' }), CONFLICT)
  engine.verifier.verdict = { ok: false, reason: 'by plan' }
  await service.act(id, 'finalize')
  await engine.inPhase(id, 'finished_failure')
  await t.rejects(service.changeDisk('d1', { provisionedSize: 2 * SIZE }), CONFLICT)
  t.match(await service.changeDisk('d1', { name: 'x' }), { status: 'illegal', name: 'x' })
})

t.test('a growth that a crash has interrupted is finished', async (t) => {
  const first = await startEngine(t, { daemon })
  const disk = await first.addDisk({ id: 'd1', provisionedSize: SIZE })
  await first.stop()
  const pending = { provisionedSize: 2 * SIZE, name: 'grown' }
  const engine = await startEngine(t, {
    daemon,
    from: first,
    openStore: async () => {
      const store = await SqliteStore.open(join(first.dir, 'transfers.sqlite'))
      await store.transaction(async (records) => {
        const read = await records.disk('d1')
        const lock = { status: 'locked', lockedBy: 'growth', statusBeforeLock: 'ok' } as const
        if (read) await records.putDisk({ ...read, ...lock, pending, owner: 'gone' })
      })
      return store
    },
  })
  const now = () => engine.service.disk('d1')
  await until('the disk is free', async () => (await now())?.lockedBy === undefined)
  t.match(await now(), { ...pending, status: 'ok' })
  t.equal((await engine.volumes.facts(disk)).length, 2 * SIZE)
})

t.test('a disk that can neither be made nor removed is illegal', async (t) => {
  const engine = await startEngine(t, { daemon })
  engine.volumes.fault = new Error('read-only file system')
  await t.rejects(engine.addDisk({ id: 'd1' }), /read-only/)
  t.match(await engine.service.disk('d1'), { status: 'illegal', lockedBy: undefined })
  engine.volumes.fault = undefined
  await engine.service.removeDisk('d1')
  t.equal(await engine.service.disk('d1'), undefined)
})
