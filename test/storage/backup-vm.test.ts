/**
 * Backups of a running virtual machine, as backup software does them: qemu's monitor freezes a moment,
 * qemu itself exports the disk as it was then, and the guest goes on.
 */
import t, { type Test } from 'tap'
import { copyFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KiB, MiB } from '../../core/units.js'
import { BackupClient, compareImages, restore } from '../support/backup.js'
import { startDaemon, type Daemon } from '../support/daemon.js'
import { keepAlive, request } from '../support/http.js'
import { VirtualMachine } from '../support/qemu.js'
import { run, without } from '../support/tools.js'
import { Wire, type Target } from '../support/wire.js'

const skip = without('qemu-system-x86_64', 'qemu-img', 'qemu-io')
const SIZE = 64 * MiB
const HOST = 'Host: localhost\r\n'

interface Machine {
  readonly dir: string
  readonly disk: string
  readonly vm: VirtualMachine
}

async function machine(t: Test, ...writes: string[]): Promise<Machine> {
  const dir = await mkdtemp(join(tmpdir(), 'imageio-backup-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  const disk = join(dir, 'disk.qcow2')
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', disk, String(SIZE)])
  await run('qemu-io', ['-f', 'qcow2', ...writes.flatMap((one) => ['-c', one]), disk])
  return { dir, disk, vm: await VirtualMachine.start(t, disk) }
}

function ticketFor(daemon: Daemon, { url }: VirtualMachine): Promise<string> {
  return daemon.addTicket({ url, size: SIZE, ops: ['read'], dirty: true })
}

t.test('full and incremental backups while the guest writes', { skip }, async (t) => {
  const daemon = await startDaemon(t)
  for (const target of [daemon.remote, daemon.local] as Target[]) {
    await t.test('path' in target ? 'Unix socket' : 'TLS', async (t) => {
      const { dir, disk, vm } = await machine(t, 'write -P 1 0 4M', 'write -P 2 20M 1M')
      /** What the disk must be taken for: its state at the moment the backup begins. */
      const moment = async (name: string): Promise<string> => {
        await vm.guest('flush')
        const copy = join(dir, name)
        await copyFile(disk, copy)
        return copy
      }
      const full = join(dir, 'full.raw')

      const first = await moment('first.qcow2')
      await vm.beginBackup({ begins: 'check1' })
      {
        const client = new BackupClient(target, `/images/${await ticketFor(daemon, vm)}`)
        t.teardown(() => client.close())
        client.onPiece = (offset) =>
          vm.guest(
            // Before it is fetched, behind what was fetched, and where there was nothing.
            { [0]: 'write -P 7 3M 1M', [MiB]: 'write -P 8 0 64k' }[offset] ?? 'write -P 9 50M 100k',
          )
        await vm.guest('write -P 5 20M 512k')
        await client.full(full)
        await compareImages(first, full)
        t.pass('the full backup is the disk of the moment it began')
        const bytes = client.fetched.reduce((sum, [, size]) => sum + size, 0)
        t.equal(bytes, 5 * MiB, 'and only what had data then was fetched')
        await t.rejects(client.incremental(join(dir, 'none')), /404/, 'there is no bitmap yet')
        t.equal(await client.checksum(), await checksumOf(daemon, full))
        await vm.endBackup()
      }

      await vm.guest('write -z 1M 128k')
      const second = await moment('second.qcow2')
      await vm.beginBackup({ begins: 'check2', ends: 'check1' })
      const client = new BackupClient(target, `/images/${await ticketFor(daemon, vm)}`)
      t.teardown(() => client.close())
      await vm.guest('write -P 11 2M 64k')
      client.onPiece = (offset) => vm.guest(`write -P 12 ${offset} 64k`)
      const incremental = await client.incremental(join(dir, 'inc.raw'))
      t.strictSame(
        client.fetched,
        [
          [0, 64 * KiB],
          [3 * MiB, MiB],
          [20 * MiB, 512 * KiB],
          [50 * MiB, 128 * KiB],
        ],
        'only what has changed since the first backup is fetched',
      )
      const checksum = await client.checksum()
      const restored = join(dir, 'restored.raw')
      await restore(restored, full, [incremental])
      await compareImages(second, restored)
      t.pass('full and incremental are the disk of the second moment')
      t.equal(await checksumOf(daemon, restored), checksum)
      await vm.endBackup({ removes: 'check1' })

      await vm.beginBackup({ begins: 'check3', ends: 'check2' })
      const third = new BackupClient(target, `/images/${await ticketFor(daemon, vm)}`)
      t.teardown(() => third.close())
      const more = await third.incremental(join(dir, 'inc2.raw'))
      await vm.endBackup({ removes: 'check2' })
      await vm.quit()
      await restore(restored, full, [incremental, more])
      await compareImages(disk, restored)
      t.pass('what was written during the second backup is in the third')
    })
  }
})

t.test('a backup that ends under the client', { skip }, async (t) => {
  const daemon = await startDaemon(t)
  const { vm } = await machine(t, 'write -P 1 0 64M')
  const endings: [string, () => Promise<void>, RegExp][] = [
    ['by the monitor', () => vm.endBackup(), /export/],
    ['with the virtual machine', () => vm.kill(), /connections|gone/],
  ]
  for (const [index, [how, end, reason]] of endings.entries()) {
    await t.test(how, async (t) => {
      await vm.beginBackup({ begins: `check${index}` })
      const id = await ticketFor(daemon, vm)
      const agent = keepAlive(daemon.remote)
      t.teardown(() => agent.destroy())
      const idle = await request(daemon.remote, 'HEAD', `/images/${id}`, { agent })
      t.equal(idle.status, 200, 'one connection waits')
      const wire = await Wire.open(daemon.remote, { isReading: false })
      t.teardown(() => wire.destroy())
      await wire.send(`GET /images/${id} HTTP/1.1\r\n${HOST}\r\n`)
      await daemon.ticketWhen(
        id,
        'the download moves',
        ({ transferred = 0 }) => transferred > 0 && transferred < SIZE,
      )
      await end()
      wire.read()
      const received = await wire.rest()
      const body = received.subarray(received.indexOf('\r\n\r\n') + 4)
      t.match(received.toString('latin1', 0, 400), /^HTTP\/1.1 200 [^]*content-length: 67108864/i)
      t.ok(body.length < SIZE, `cut after ${body.length} bytes`)
      t.ok(body.equals(Buffer.alloc(body.length, 1)), 'nothing is padded')
      for (const from of [agent, undefined]) {
        const ask = from === undefined ? {} : { agent: from }
        for (const path of ['', '/extents', '/checksum']) {
          const reply = await request(daemon.remote, 'GET', `/images/${id}${path}`, ask)
          t.ok([500, 502].includes(reply.status), `${path}: ${reply.status} ${reply.text}`)
          t.match(reply.text, reason)
          t.notMatch(reply.text, id)
        }
      }
    })
  }
})

/** As the daemon has it of a raw file. */
async function checksumOf(daemon: Daemon, file: string): Promise<string> {
  const { url } = await daemon.addTicketFor(file, { size: SIZE, ops: ['read'] })
  const client = new BackupClient(daemon.local, url)
  try {
    return await client.checksum()
  } finally {
    client.close()
  }
}
