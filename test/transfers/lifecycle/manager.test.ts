/** Transfers of one service and one daemon, from their beginning to their end. */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import t from 'tap'
import { startDaemon } from '../../support/daemon.js'
import { request } from '../../support/http.js'
import { until } from '../../support/wait.js'
import { startEngine } from '../engine.js'

const SIZE = 65536

const fault = (statusCode: number) => ({ code: 'ERR_TRANSFER_FAULT', statusCode })
const CONFLICT = fault(409)
const MISSING = fault(404)
const WRONG = fault(400)

const daemon = await startDaemon(t)

/** Sends a whole image to where the transfer says. */
async function upload(url: string | undefined, data: Buffer): Promise<void> {
  const reply = await request(daemon.remote, 'PUT', new URL(url!).pathname, { body: data })
  if (reply.status !== 200) throw new Error(`${reply.status} ${reply.text}`)
}

const WEEK_MS = 7 * 24 * 3600 * 1000

t.test('an upload that is finalized leaves a disk with its data', async (t) => {
  const engine = await startEngine(t, { daemon })
  const disk = await engine.addDisk({ id: '123' })
  t.match(await engine.service.disk('123'), { status: 'ok', lockedBy: undefined })
  const added = await engine.addTransfer({ diskId: '123' })
  t.match(added, { phase: 'initializing', transferUrl: undefined, proxyUrl: undefined })
  t.match(await engine.service.disk('123'), { status: 'locked', lockedBy: added.id })
  const transfer = await engine.inPhase(added.id, 'transferring', { passes: false })
  t.match(transfer.transferUrl, /^https:\/\/127.0.0.1:\d+\/images\/[0-9a-f-]{36}$/)
  t.equal(transfer.proxyUrl, transfer.transferUrl, 'without a proxy both are the same')
  t.equal(transfer.hostId, 'host')
  const ticket = await daemon.ticket(transfer.ticketId!)
  t.match(ticket, { ops: ['write'], size: SIZE, timeout: 300, transfer_id: added.id })

  const data = randomBytes(SIZE)
  await upload(transfer.transferUrl, data)
  await engine.service.act(added.id, 'finalize')
  const done = await engine.inPhase(added.id, 'finished_success', { passes: false })
  t.match(done, { ticketId: undefined, transferUrl: undefined })
  t.match(await engine.service.disk('123'), { status: 'ok', lockedBy: undefined })
  t.same(readFileSync(engine.volumes.path(disk)), data)
  t.equal((await daemon.controlRequest('GET', `/tickets/${transfer.ticketId!}`)).status, 404)
  t.same(engine.verifier.asked, ['123'])
})

t.test('progress is told, and watched', async (t) => {
  const engine = await startEngine(t, { daemon })
  const { id: diskId } = await engine.addDisk()
  const { id, transferUrl } = await engine.transferring({ diskId })
  const seen: unknown[] = []
  const end = engine.service.watch(id, (transfer) => seen.push(transfer?.transferred))
  await upload(transferUrl, randomBytes(SIZE))
  const { transferred } = await until('all is transferred', async () => {
    engine.clock.advance(1000)
    const transfer = await engine.service.transfer(id)
    return transfer?.transferred !== 0 && transfer
  })
  t.equal(transferred, SIZE)
  await engine.service.act(id, 'cancel')
  await engine.inPhase(id, 'finished_failure')
  end()
  t.ok(seen.includes(SIZE))
})

t.test('a download has the right to read, and gives the disk back', async (t) => {
  const engine = await startEngine(t, { daemon })
  const { id: diskId } = await engine.addDisk()
  const transfer = await engine.transferring({ diskId, direction: 'download' })
  t.match(await daemon.ticket(transfer.ticketId!), { ops: ['read'] })
  await t.rejects(engine.addTransfer({ diskId, direction: 'download' }), CONFLICT)
  await t.rejects(engine.service.act(transfer.id, 'pause'), WRONG)
  await engine.service.act(transfer.id, 'finalize')
  await engine.inPhase(transfer.id, 'finished_success')
  t.same(engine.verifier.asked, [], 'nothing was written')
  t.match(await engine.service.disk(diskId), { status: 'ok', lockedBy: undefined })
})

t.test('an image that is refused makes its disk illegal', async (t) => {
  const engine = await startEngine(t, { daemon })
  const { id: diskId } = await engine.addDisk()
  engine.verifier.verdict = { ok: false, reason: 'it has a backing file' }
  const { id } = await engine.transferring({ diskId })
  await engine.service.act(id, 'finalize')
  const failed = await engine.inPhase(id, 'finished_failure')
  t.match(failed.message, /backing file/)
  t.match(await engine.service.disk(diskId), { status: 'illegal', lockedBy: undefined })
  t.ok(engine.volumes.has(diskId))
  await t.rejects(engine.addTransfer({ diskId }), CONFLICT)
  await engine.service.removeDisk(diskId)
  t.equal(await engine.service.disk(diskId), undefined)
  t.notOk(engine.volumes.has(diskId))
})

t.test('an image that is refused is deleted where the configuration says so', async (t) => {
  const engine = await startEngine(t, { daemon, policies: { deleteInvalidDisks: true } })
  const { id: diskId } = await engine.addDisk()
  engine.verifier.verdict = { ok: false, reason: 'nonsense' }
  const { id } = await engine.transferring({ diskId })
  await engine.service.act(id, 'finalize')
  await engine.inPhase(id, 'finished_failure')
  t.equal(await engine.service.disk(diskId), undefined)
  t.notOk(engine.volumes.has(diskId))
})

t.test('an image that cannot be verified now is verified later', async (t) => {
  const engine = await startEngine(t, { daemon })
  const { id: diskId } = await engine.addDisk()
  engine.verifier.verdict = new Error('no memory')
  const { id } = await engine.transferring({ diskId })
  await engine.service.act(id, 'finalize')
  await engine.pass(3)
  t.match(await engine.service.transfer(id), { phase: 'finalizing_success' })
  t.match(await engine.service.disk(diskId), { status: 'locked' })
  engine.verifier.verdict = { ok: true, qcowVersion: 'qcow2_v3', actualSize: 4096 }
  await engine.inPhase(id, 'finished_success')
  t.match(await engine.service.disk(diskId), { qcowVersion: 'qcow2_v3', actualSize: 4096 })
})

t.test('a stop does not wait for the turns of verifications, which come later', async (t) => {
  const first = await startEngine(t, { daemon })
  const { id: diskId } = await first.addDisk()
  const { id } = await first.transferring({ diskId })
  first.verifier.isBusy = true
  await first.service.act(id, 'finalize')
  await until('it waits for its turn', () => first.verifier.asked.length === 1)
  await first.stop()
  first.verifier.isBusy = false
  const engine = await startEngine(t, { daemon, from: first })
  await engine.inPhase(id, 'finished_success')
  t.match(await engine.service.disk(diskId), { status: 'ok' })
})

t.test('an image that can never be verified is kept, illegal, whatever the policy', async (t) => {
  const engine = await startEngine(t, { daemon, policies: { deleteInvalidDisks: true } })
  const { id: diskId } = await engine.addDisk()
  engine.verifier.verdict = new Error('no memory')
  const { id } = await engine.transferring({ diskId })
  await engine.service.act(id, 'finalize')
  const { message } = await engine.inPhase(id, 'finished_failure')
  t.match(message, /cannot be verified: no memory/)
  t.equal(engine.verifier.asked.length, 60)
  t.match(await engine.service.disk(diskId), { status: 'illegal' })
  t.ok(engine.volumes.has(diskId))
})

t.test('cancel removes the ticket, the image and the disk', async (t) => {
  const engine = await startEngine(t, { daemon })
  const { id: diskId } = await engine.addDisk()
  const { id, ticketId } = await engine.transferring({ diskId })
  await engine.service.act(id, 'cancel')
  await engine.inPhase(id, 'finished_failure')
  t.equal(await engine.service.disk(diskId), undefined)
  t.notOk(engine.volumes.has(diskId))
  t.equal((await daemon.controlRequest('GET', `/tickets/${ticketId!}`)).status, 404)
  await t.resolves(engine.service.act(id, 'cancel'), 'again it has no effect')
  await t.rejects(engine.service.act(id, 'resume'), CONFLICT)
})

t.test(
  'cancel keeps a disk that had an image before where the configuration says so',
  async (t) => {
    const engine = await startEngine(t, { daemon, policies: { protectExistingDisks: true } })
    const { id: diskId } = await engine.addDisk()
    const first = await engine.transferring({ diskId })
    await engine.service.act(first.id, 'finalize')
    await engine.inPhase(first.id, 'finished_success')
    const second = await engine.transferring({ diskId })
    await engine.service.act(second.id, 'cancel')
    await engine.inPhase(second.id, 'finished_failure')
    t.match(await engine.service.disk(diskId), { status: 'illegal', lockedBy: undefined })
    t.ok(engine.volumes.has(diskId))
  },
)

t.test('a disk whose removal fails is kept as illegal, and says why', async (t) => {
  const engine = await startEngine(t, { daemon })
  const { id: diskId } = await engine.addDisk()
  const { id } = await engine.transferring({ diskId })
  engine.volumes.fault = new Error('read-only file system')
  await engine.service.act(id, 'cancel')
  const failed = await engine.inPhase(id, 'finished_failure')
  t.match(failed.message, /read-only/)
  t.match(await engine.service.disk(diskId), { status: 'illegal', lockedBy: undefined })
})

t.test('paused, a transfer keeps its ticket; resumed, it goes on', async (t) => {
  const engine = await startEngine(t, { daemon })
  const { id: diskId } = await engine.addDisk()
  const before = await engine.transferring({ diskId })
  const { id } = before
  await engine.service.act(id, 'pause')
  const paused = await engine.inPhase(id, 'paused_user')
  t.equal(paused.transferUrl, before.transferUrl)
  const path = `/images/${paused.ticketId!}`
  t.equal((await request(daemon.remote, 'PUT', path, { body: Buffer.alloc(SIZE) })).status, 200)
  await until('what is moved is seen', async () => {
    engine.clock.advance(1000)
    return (await engine.service.transfer(id))?.transferred === SIZE
  })
  await engine.pass(400)
  t.match(await engine.service.transfer(id), { phase: 'paused_user' })
  await engine.service.act(id, 'resume')
  const after = await engine.inPhase(id, 'transferring')
  t.equal(after.transferUrl, before.transferUrl)
  t.equal((await daemon.ticket(after.ticketId!)).uuid, after.ticketId)
})

t.test('who reads the log is reminded of a transfer that stays paused', async (t) => {
  const engine = await startEngine(t, { daemon })
  const { id: diskId } = await engine.addDisk()
  const { id } = await engine.transferring({ diskId })
  await engine.service.act(id, 'pause')
  await engine.inPhase(id, 'paused_user')
  const reminders = () => engine.logText().split('still paused, its disk is locked').length - 1
  for (const times of [1, 2]) {
    await until(`reminder ${times}`, () => {
      engine.clock.advance(60_000)
      return Promise.resolve(reminders() === times)
    })
  }
  t.ok(engine.clock.nextMs()! > 60_000, 'nothing is asked meanwhile')
})

t.test('a transfer nobody uses is paused, and resume gives it its time again', async (t) => {
  const engine = await startEngine(t, { daemon })
  const { id: diskId } = await engine.addDisk()
  const { id } = await engine.transferring({ diskId, inactivityTimeout: 1 })
  const paused = await engine.inPhase(id, 'paused_system')
  t.match(paused.message, /nobody used/)
  await engine.service.act(id, 'resume')
  const resumed = await engine.inPhase(id, 'transferring', { passes: false })
  t.equal(resumed.message, undefined)
})

t.test('who cancels a transfer is its reason, whatever had paused it', async (t) => {
  const engine = await startEngine(t, { daemon })
  const paused = async () => {
    const { id: diskId } = await engine.addDisk()
    const { id } = await engine.transferring({ diskId, inactivityTimeout: 1 })
    t.match((await engine.inPhase(id, 'paused_system')).message, /nobody used/)
    return id
  }
  const byUser = await paused()
  await engine.service.act(byUser, 'cancel', 'jane@internal')
  t.equal((await engine.inPhase(byUser, 'finished_failure')).message, 'cancelled by jane@internal')
  const unnamed = await paused()
  await engine.service.act(unnamed, 'cancel')
  t.equal((await engine.inPhase(unnamed, 'finished_failure')).message, undefined)
  const finalized = await paused()
  await engine.service.act(finalized, 'finalize')
  t.equal((await engine.service.transfer(finalized))?.message, undefined)
  await engine.inPhase(finalized, 'finished_success')
})

t.test('a download nobody uses is cancelled, without harm to its disk', async (t) => {
  const engine = await startEngine(t, { daemon })
  const { id: diskId } = await engine.addDisk()
  const fields = { diskId, direction: 'download', inactivityTimeout: 1 } as const
  const { id } = await engine.transferring(fields)
  await engine.inPhase(id, 'finished_failure')
  t.match(await engine.service.disk(diskId), { status: 'ok', lockedBy: undefined })
})

t.test('a transfer with time to spare outlives many tickets', async (t) => {
  const engine = await startEngine(t, { daemon })
  const { id: diskId } = await engine.addDisk()
  const first = await engine.transferring({ diskId, inactivityTimeout: 0 })
  for (let minute = 0; minute < 20; minute++) {
    await engine.pass(60)
    await until('the ticket is renewed', async () => {
      const { sessionExpires } = await engine.inPhase(first.id, 'transferring')
      return sessionExpires > engine.clock.now()
    })
  }
  const last = await engine.inPhase(first.id, 'transferring')
  t.equal(last.ticketId, first.ticketId)
})

t.test('a wall clock that is set back keeps no ticket from being renewed', async (t) => {
  const engine = await startEngine(t, { daemon })
  const { id: diskId } = await engine.addDisk()
  const { id } = await engine.transferring({ diskId, inactivityTimeout: 0 })
  engine.clock.set(-WEEK_MS)
  await engine.pass(60)
  await until('the ticket is renewed', async () => {
    engine.clock.advance(1000)
    const { sessionExpires } = await engine.inPhase(id, 'transferring')
    return sessionExpires <= engine.clock.now() + 300_000
  })
})

t.test('a wall clock that is set back makes nobody wait for the inactive', async (t) => {
  const engine = await startEngine(t, { daemon })
  const { id: diskId } = await engine.addDisk()
  const { id } = await engine.transferring({ diskId, inactivityTimeout: 1 })
  engine.clock.set(-WEEK_MS)
  await engine.inPhase(id, 'paused_system')
})

t.test('finished transfers are forgotten, success sooner than failure', async (t) => {
  const engine = await startEngine(t, { daemon })
  const success = await engine.transferring({ diskId: (await engine.addDisk()).id })
  const failure = await engine.transferring({ diskId: (await engine.addDisk()).id })
  const paused = await engine.transferring({ diskId: (await engine.addDisk()).id })
  await engine.service.act(success.id, 'finalize')
  await engine.service.act(failure.id, 'cancel')
  await engine.service.act(paused.id, 'pause')
  await engine.inPhase(success.id, 'finished_success')
  await engine.inPhase(failure.id, 'finished_failure')
  const left = async (): Promise<string[]> => {
    engine.clock.advance(600_000)
    await engine.store.versions()
    return (await engine.service.transfers()).map(({ id }) => id).sort()
  }
  t.same(await left(), [success.id, failure.id, paused.id].sort())
  for (let tries = 0; (await left()).length > 1 && tries < 50; tries++);
  t.same(await left(), [paused.id])
})

t.test('requests that do not fit the state are refused', async (t) => {
  const engine = await startEngine(t, { daemon })
  const { id: diskId } = await engine.addDisk()
  await t.rejects(engine.addTransfer({ diskId: 'missing' }), MISSING)
  await t.rejects(engine.addTransfer({ imageId: 'missing' }), MISSING)
  await t.rejects(engine.addTransfer({ diskId, hostId: 'missing' }), MISSING)
  await t.rejects(engine.addTransfer({ diskId, format: 'cow' }), WRONG)
  await t.rejects(engine.service.act('missing', 'cancel'), MISSING)
  await t.rejects(engine.service.removeDisk('missing'), MISSING)
  await t.rejects(engine.addDisk({ id: diskId }), CONFLICT)
  await t.rejects(engine.addDisk({ sparse: false, provisionedSize: 2 ** 50 }), CONFLICT)
  for (const [format, largest] of [
    ['raw', 2 ** 53 - 512],
    ['cow', 2 ** 51],
  ] as const) {
    const tooLarge = { format, provisionedSize: largest + 1 }
    await t.rejects(engine.addDisk(tooLarge), { ...WRONG, message: new RegExp(`${largest} bytes`) })
  }
  await t.rejects(engine.service.changeDisk(diskId, { provisionedSize: 2 ** 53 - 1 }), WRONG)
  await t.rejects(engine.addDisk({ storageDomain: { name: 'two' } }), MISSING)
  engine.volumes.domain = { ...engine.volumes.domain, status: 'maintenance' }
  await t.rejects(engine.addTransfer({ diskId }), CONFLICT)
  t.match(await engine.service.disk(diskId), { status: 'ok', lockedBy: undefined })
})

t.test('the log says who did what, to which disk and where', async (t) => {
  const engine = await startEngine(t, { daemon })
  const { id: disk } = await engine.addDisk()
  const { id: transfer } = await engine.addTransfer({ diskId: disk, hostId: 'host' }, 'me@here')
  const { ticketId } = await engine.inPhase(transfer, 'transferring')
  await engine.service.act(transfer, 'extend', 'me@here')
  await engine.service.act(transfer, 'finalize', 'you@there')
  await engine.inPhase(transfer, 'finished_success')
  await engine.service.act(transfer, 'cancel', 'late@there')
  const lines = engine.logText().trim().split('\n')
  const logged = lines.map((line) => JSON.parse(line) as Record<string, unknown>)
  const about = { transfer, disk, direction: 'upload', host: 'host' }
  const by = (user: string) => logged.filter((line) => line['user'] === user)
  t.match(by('me@here'), [
    { level: 30, msg: 'transfer created', format: 'raw', backend: 'file', ...about },
    { level: 20, msg: 'transfer: extend', ...about },
  ])
  t.match(by('you@there'), [
    { level: 30, msg: 'transfer: finalize', phase: 'finalizing_success', ...about },
  ])
  t.same(by('late@there'), [], 'nothing was done')
  t.match(logged.filter(({ msg }) => msg === 'phase').at(-1), {
    phase: 'finished_success',
    ...about,
  })
  t.notMatch(engine.logText(), ticketId!)
})

t.test('an image can be named by its image id', async (t) => {
  const engine = await startEngine(t, { daemon })
  await engine.addDisk({ id: 'd1', imageId: 'i1' })
  t.match(await engine.addTransfer({ imageId: 'i1' }), { diskId: 'd1' })
})
