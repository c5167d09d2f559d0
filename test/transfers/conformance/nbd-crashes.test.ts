/** Processes killed in the middle of a transfer of the guest's data, which goes through qemu-nbd. */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ImageioClient } from '../../support/imageio-client.js'
import {
  putFile,
  startSystem,
  tag,
  type CurlReply,
  type SeenTransfer,
  type TransferSystem,
} from '../../support/transfers.js'
import { run, without } from '../../support/tools.js'
import { until } from '../../support/wait.js'

const MiB = 2 ** 20
const SIZE = 16 * MiB
const skip = without('curl', 'qemu-img', 'qemu-nbd')

t.test('kill -9, with guest data on its way into a qcow2 disk', { skip }, async (t) => {
  const system = await startSystem(t)
  const data = randomBytes(SIZE)
  const file = putFile(system, 'data', data)

  const begin = async (id: string): Promise<SeenTransfer> => {
    await hostIsUp()
    await system.addDisk(id, 'cow', SIZE)
    return system.transferring(`<disk id="${id}"/><format>raw</format>`)
  }
  /** curl, slow enough to be there when something is killed. Resolves when data flows. */
  const slowly = async (url: string, ticket: string): Promise<Promise<CurlReply | Error>[]> => {
    const done = system.upload(url, file, '--limit-rate', '4M').catch((cause: unknown) => {
      return cause instanceof Error ? cause : new Error('curl', { cause })
    })
    const flows = ({ transferred = 0 }) => transferred > MiB
    await system.daemon.ticketWhen(ticket, 'data flows', flows)
    return [done]
  }
  const complete = async (t: Test, id: string, disk: string): Promise<void> => {
    await system.act(id, 'finalize')
    await system.phase(id, 'finished_success')
    const path = volumeOf(system, await system.diskStatus(disk, 'ok'))
    await run('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', path, file])
    await run('qemu-img', ['check', '-q', '-f', 'qcow2', path])
    t.strictSame(await system.nbdServers(), [], 'no NBD server is left')
  }
  const refused = async (t: Test, id: string, disk: string): Promise<void> => {
    await system.act(id, 'finalize')
    await system.phase(id, 'finished_failure')
    await system.diskStatus(disk, 'illegal')
    t.strictSame(await system.nbdServers(), [])
  }
  const killServer = async (id: string): Promise<number> => {
    const pid = (await system.nbdServer(id)) ?? 0
    process.kill(pid, 'SIGKILL')
    return pid
  }
  /** Until the end of all tests. */
  const restartDaemon = () => system.restartDaemon(t)
  const hostIsUp = () =>
    until('the host is up', async () => {
      return tag((await system.get('hosts/456')).text, 'status') === 'up'
    })
  const servedAgain = (id: string, before: number): Promise<number> =>
    until(
      'another one serves',
      async () => {
        const pid = await system.nbdServer(id)
        return pid !== before && pid
      },
      { timeoutMs: 20_000 },
    )

  t.test('of the service, again and again: the transfer goes on', async (t) => {
    const { id, url, ticket } = await begin('service')
    const [uploading] = await slowly(url, ticket)
    for (let times = 0; times < 2; times++) {
      await system.kill()
      await system.start()
    }
    t.match(await uploading, { status: 200 })
    await system.kill()
    await system.start()
    await complete(t, id, 'service')
  })

  t.test('of the service, right after cancel: the image and its server go', async (t) => {
    const { id, url, ticket } = await begin('cancelled')
    const path = volumeOf(system, await system.diskStatus('cancelled', 'locked'))
    const [uploading] = await slowly(url, ticket)
    await system.act(id, 'cancel')
    await system.kill()
    await system.start()
    await system.phase(id, 'finished_failure')
    await uploading
    t.equal((await system.get('disks/cancelled')).status, 404)
    t.notOk(existsSync(path))
    t.strictSame(await system.nbdServers(), [])
  })

  t.test('of the daemon: the client is told, and uploads to the same URL again', async (t) => {
    const { id, url, ticket } = await begin('daemon')
    const [uploading] = await slowly(url, ticket)
    system.daemon.process.kill('SIGKILL')
    await system.daemon.exited()
    t.type(await uploading, Error, 'curl fails')
    await restartDaemon()
    await ticketIsBack(system, ticket)
    t.equal(system.seen(id, await system.phase(id, 'transferring')).url, url)
    t.equal((await system.upload(url, file)).status, 200)
    await complete(t, id, 'daemon')
  })

  t.test('of daemon and service at once', async (t) => {
    const { id, url, ticket } = await begin('both')
    const [uploading] = await slowly(url, ticket)
    system.daemon.process.kill('SIGKILL')
    await Promise.all([system.kill(), system.daemon.exited()])
    await uploading
    await restartDaemon()
    await system.start()
    await ticketIsBack(system, ticket)
    t.equal((await system.upload(url, file)).status, 200)
    await complete(t, id, 'both')
  })

  t.test('pause and resume, and nothing is killed: unflushed writes stay', async (t) => {
    const { id, url } = await begin('paused')
    const client = await ImageioClient.open(t, url)
    await client.write(data)
    await system.act(id, 'pause')
    await system.phase(id, 'paused_user')
    await system.act(id, 'resume')
    await system.phase(id, 'transferring')
    await client.flush()
    client.close()
    await complete(t, id, 'paused')
  })

  t.test('of qemu-nbd, when all was flushed: a new one serves the rest', async (t) => {
    const { id, url } = await begin('flushed')
    const half = putFile(system, 'half', data.subarray(0, SIZE / 2))
    t.equal((await system.upload(url, half, '-H', range(0, SIZE / 2))).status, 200)
    const before = await killServer(id)
    await servedAgain(id, before)
    const rest = putFile(system, 'rest', data.subarray(SIZE / 2))
    t.equal((await system.upload(url, rest, '-H', range(SIZE / 2, SIZE / 2))).status, 200)
    await complete(t, id, 'flushed')
  })

  t.test('of qemu-nbd, in the middle of a request: it fails, and so does finalize', async (t) => {
    const { id, url, ticket } = await begin('middle')
    const [uploading] = await slowly(url, ticket)
    const before = await killServer(id)
    t.not(((await uploading) as CurlReply).status, 200)
    await servedAgain(id, before)
    t.not((await system.upload(url, file)).status, 200, 'it cannot be mended')
    await refused(t, id, 'middle')
  })

  t.test('of qemu-nbd, with writes that nobody has flushed: finalize fails', async (t) => {
    const { id, url } = await begin('unflushed')
    const client = await ImageioClient.open(t, url)
    await client.write(data)
    const before = await killServer(id)
    await servedAgain(id, before)
    await t.rejects(client.flush(), /500 instead of 200/)
    client.close()
    await refused(t, id, 'unflushed')
  })

  t.test('the same, and the client says nothing more', async (t) => {
    const { id, url } = await begin('silent')
    const client = await ImageioClient.open(t, url)
    await client.write(data)
    await killServer(id)
    await refused(t, id, 'silent')
    client.close()
  })

  t.test('the same, with a daemon that is started again', async (t) => {
    const { id, url, ticket } = await begin('forgetful')
    const client = await ImageioClient.open(t, url)
    await client.write(data)
    await servedAgain(id, await killServer(id))
    client.close()
    system.daemon.process.kill('SIGKILL')
    await system.daemon.exited()
    await restartDaemon()
    await ticketIsBack(system, ticket)
    await refused(t, id, 'forgetful')
  })

  t.test('of qemu-nbd, and a cancel: the image goes', async (t) => {
    const { id, url, ticket } = await begin('given-up')
    const [uploading] = await slowly(url, ticket)
    await killServer(id)
    await uploading
    await system.act(id, 'cancel')
    await system.phase(id, 'finished_failure')
    t.equal((await system.get('disks/given-up')).status, 404)
    t.strictSame(await system.nbdServers(), [])
  })

  t.test('of qemu-nbd, in a download: the client is told, and gets all at once more', async (t) => {
    const back = join(system.dir, 'back')
    const { id, url } = await system.transferring(
      '<disk id="service"/><format>raw</format><direction>download</direction>',
    )
    const before = await killServer(id)
    await servedAgain(id, before)
    t.equal((await system.download(url, back)).status, 200)
    await run('cmp', [file, back])
    await system.act(id, 'finalize')
    await system.phase(id, 'finished_success')
    await system.diskStatus('service', 'ok')
    t.strictSame(await system.nbdServers(), [])
  })
})

function range(offset: number, size: number): string {
  return `Content-Range: bytes ${offset}-${offset + size - 1}/*`
}

function ticketIsBack(system: TransferSystem, ticket: string): Promise<boolean> {
  const isBack = async () =>
    (await system.daemon.controlRequest('GET', `/tickets/${ticket}`)).status === 200
  return until('the ticket is back', isBack, { timeoutMs: 20_000 })
}

function volumeOf(system: TransferSystem, disk: string): string {
  return join(system.images, tag(disk, 'image_id') ?? '')
}
