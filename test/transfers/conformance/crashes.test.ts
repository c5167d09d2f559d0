/** Processes that are killed in the middle of a transfer, or do not run. */
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { idOf, putFile, startSystem, tag, type TransferSystem } from '../../support/transfers.js'
import { run, without } from '../../support/tools.js'
import { until } from '../../support/wait.js'

const MiB = 2 ** 20
const SIZE = 4 * MiB
const skip = without('curl', 'qemu-img', 'qemu-nbd')

t.test('kill -9', { skip }, async (t) => {
  const system = await startSystem(t)
  const data = randomBytes(SIZE)
  const file = putFile(system, 'data', data)

  t.test('of the service, while data flows: nobody notices', async (t) => {
    await system.addDisk('service', 'raw', SIZE)
    const { id, url, ticket } = await system.transferring('<disk id="service"/>')
    const slow = system.curl('--limit-rate', '4M', '--upload-file', file, '-X', 'PUT', url)
    await system.daemon.ticketWhen(ticket, 'data flows', ({ active }) => active)
    await system.kill()
    t.equal((await slow).status, 200)
    await system.start()
    t.equal(system.seen(id, await system.phase(id, 'transferring')).url, url)
    await system.act(id, 'finalize')
    await system.phase(id, 'finished_success')
    const disk = await system.diskStatus('service', 'ok')
    t.ok(readFileSync(volumeOf(system, disk)).equals(data))
  })

  t.test('of the service, while guest data flows through qemu-nbd', async (t) => {
    await system.addDisk('guest', 'cow', SIZE)
    const { id, url, ticket } = await system.transferring('<disk id="guest"/><format>raw</format>')
    const slow = system.curl('--limit-rate', '4M', '--upload-file', file, '-X', 'PUT', url)
    await system.daemon.ticketWhen(ticket, 'data flows', ({ active }) => active)
    await system.kill()
    t.equal((await slow).status, 200)
    await system.start()
    await system.phase(id, 'transferring')
    await system.act(id, 'finalize')
    await system.phase(id, 'finished_success')
    const disk = await system.diskStatus('guest', 'ok')
    await run('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', volumeOf(system, disk), file])
    t.strictSame(readdirSync(join(system.dir, 'run')), [], 'no NBD server is left')
  })

  t.test('of the service, right after finalize', async (t) => {
    await system.addDisk('final', 'raw', SIZE)
    const { id, url } = await system.transferring('<disk id="final"/>')
    t.equal((await system.upload(url, file)).status, 200)
    await system.act(id, 'finalize')
    await system.kill()
    await system.start()
    await system.phase(id, 'finished_success')
    await system.diskStatus('final', 'ok')
  })

  t.test('of the daemon: the ticket is made again with the same id', async (t) => {
    await system.addDisk('daemon', 'raw', SIZE)
    const { id, url, proxyUrl, ticket } = await system.transferring('<disk id="daemon"/>')
    system.daemon.process.kill('SIGKILL')
    await system.daemon.exited()
    await system.restartDaemon(t)
    const isBack = async () =>
      (await system.daemon.controlRequest('GET', `/tickets/${ticket}`)).status === 200
    await until('the ticket is back', isBack, { timeoutMs: 20_000 })
    t.equal(system.seen(id, await system.phase(id, 'transferring')).url, url)
    t.equal((await system.upload(proxyUrl, file)).status, 200)
    await system.act(id, 'finalize')
    await system.phase(id, 'finished_success')
    const disk = await system.diskStatus('daemon', 'ok')
    t.ok(readFileSync(volumeOf(system, disk)).equals(data))
  })
})

t.test(
  'a daemon that does not run: paused_system, and resume when it does',
  { skip },
  async (t) => {
    const system = await startSystem(t, { transfers: { host_check_interval: 600 } })
    const file = putFile(system, 'data', randomBytes(SIZE))
    await system.addDisk('d', 'raw', SIZE)
    system.daemon.process.kill('SIGKILL')
    await system.daemon.exited()
    const made = await system.post(
      'imagetransfers',
      '<image_transfer><disk id="d"/></image_transfer>',
    )
    const id = idOf(made)
    await system.phase(id, 'paused_system')
    await system.diskStatus('d', 'locked')
    await system.restartDaemon(t)
    await system.act(id, 'resume')
    const { url } = system.seen(id, await system.phase(id, 'transferring'))
    t.equal((await system.upload(url, file)).status, 200)
    await system.act(id, 'finalize')
    await system.phase(id, 'finished_success')
  },
)

function volumeOf(system: TransferSystem, disk: string): string {
  return join(system.images, tag(disk, 'image_id') ?? '')
}
