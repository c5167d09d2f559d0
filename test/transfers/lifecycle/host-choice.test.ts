/** Which host a transfer gets, and what is said when there is none. */
import t from 'tap'
import { startDaemon } from '../../support/daemon.js'
import { hostOf, startEngine, type Engine } from '../engine.js'

const CONFLICT = { code: 'ERR_TRANSFER_FAULT', statusCode: 409 }

t.test('a fixed host is used, or none', async (t) => {
  const [one, two] = [await startDaemon(t), await startDaemon(t)]
  const hosts = [hostOf(one, { id: 'one' }), hostOf(two, { id: '456', hasNbdServers: false })]
  const engine = await startEngine(t, { hosts })
  const { id: diskId } = await engine.addDisk()
  const { hostId, ticketId } = await engine.transferring({ diskId, hostId: '456' })
  t.equal(hostId, '456')
  t.equal((await two.ticket(ticketId!)).uuid, ticketId)
  const other = await engine.addDisk({ format: 'cow' })
  const nbd = { diskId: other.id, format: 'raw', hostId: '456' } as const
  await t.rejects(engine.addTransfer(nbd), { code: 'ERR_TRANSFER_FAULT', statusCode: 409 })
  t.match(await engine.transferring({ ...nbd, hostId: undefined }), { hostId: 'one' })
  const raw = await engine.addDisk()
  t.match(await engine.transferring({ diskId: raw.id, format: 'raw', hostId: '456' }), {
    hostId: '456',
    backend: 'file',
  })
})

t.test('without a host there is one from the beginning, each in its turn', async (t) => {
  const [one, two] = [await startDaemon(t), await startDaemon(t)]
  const hosts = [hostOf(one, { id: 'one' }), hostOf(two, { id: 'two' })]
  const engine = await startEngine(t, { hosts })
  for (const expected of ['one', 'two', 'one']) {
    const { id: diskId } = await engine.addDisk()
    const { id, hostId } = await engine.addTransfer({ diskId })
    t.equal(hostId, expected)
    t.match(await engine.inPhase(id, 'transferring'), { hostId })
  }
})

t.test('that no host has NBD servers, or none that is up, is said', async (t) => {
  const [near, other] = [await startDaemon(t), await startDaemon(t)]
  const far = hostOf(other, { id: 'far', hasNbdServers: false })
  const guestData = async (engine: Engine) =>
    engine.addTransfer({ diskId: (await engine.addDisk({ format: 'cow' })).id, format: 'raw' })
  const none = await startEngine(t, { hosts: [far] })
  await t.rejects(guestData(none), { statusCode: 409, message: /No host has NBD servers/ })
  const raw = await none.addDisk()
  t.match(await none.transferring({ diskId: raw.id, format: 'raw' }), { hostId: 'far' })
  await near.stop()
  const down = await startEngine(t, { hosts: [far, hostOf(near, { id: 'near' })] })
  await t.rejects(guestData(down), { statusCode: 409, message: /No host with NBD servers is up/ })
})

t.test('without a host that is up there is no transfer', async (t) => {
  const gone = { controlSocket: '/nonexistent/sock', url: 'https://127.0.0.1:1' }
  const engine = await startEngine(t, { daemon: gone })
  t.match(engine.service.hosts(), [{ id: 'host', isUp: false }])
  const { id: diskId } = await engine.addDisk()
  await t.rejects(engine.addTransfer({ diskId }), CONFLICT)
  await t.rejects(engine.addTransfer({ diskId, hostId: 'host' }), CONFLICT)
})
