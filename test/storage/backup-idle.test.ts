/** Backups of an image that nobody uses: qemu-nbd exports it, with the bitmap of what has changed. */
import t, { type Test } from 'tap'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KiB, MiB } from '../../core/units.js'
import { BackupClient, compareImages, restore, type Incremental } from '../support/backup.js'
import { startDaemon, type Daemon } from '../support/daemon.js'
import { qemuNbd } from '../support/nbd.js'
import { run, without } from '../support/tools.js'
import type { Target } from '../support/wire.js'

const skip = without('qemu-nbd', 'qemu-img', 'qemu-io')
const SIZE = 64 * MiB

t.test('full and incremental backups of an idle image', { skip }, async (t) => {
  const daemon = await startDaemon(t)
  const ways: [string, Target][] = [
    ['TLS', daemon.remote],
    ['Unix socket', daemon.local],
  ]
  for (const [way, target] of ways) {
    await t.test(way, (t) => backupsOf(t, daemon, target))
  }
})

async function backupsOf(t: Test, daemon: Daemon, target: Target): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'imageio-backup-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  const disk = join(dir, 'disk.qcow2')
  const full = join(dir, 'full.raw')
  const bitmap = (...args: string[]): Promise<string> => run('qemu-img', ['bitmap', ...args])
  const guest = (...commands: string[]): Promise<string> =>
    run('qemu-io', ['-f', 'qcow2', ...commands.flatMap((one) => ['-c', one]), disk])
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', disk, String(SIZE)])
  await guest('write -P 1 0 3M', 'write -P 2 20M 100k', 'write -P 3 63M 1M')

  await bitmap('--add', disk, 'check1')
  {
    const server = await qemuNbd(t, ['-r', '-f', 'qcow2', '--allocation-depth', disk])
    const client = await clientOf(t, daemon, target, server.url)
    await client.full(full)
    const bytes = client.fetched.reduce((sum, [, size]) => sum + size, 0)
    t.ok(bytes < 5 * MiB, `only data is fetched: ${bytes} bytes`)
    t.ok((await stat(full)).blocks * 512 < 6 * MiB, 'the copy is sparse')
    await server.stop()
  }
  await compareImages(disk, full)
  t.pass('the full backup equals the disk')

  const steps: { writes: string[]; changed: [number, number][]; zeroed: [number, number][] }[] = [
    {
      // Over data, into a hole, zeroes over data, twice the same place, the last cluster.
      writes: ['write -P 9 64k 64k', 'write -P 9 40M 1', 'write -z 1M 128k', 'write -P 4 63M 1M'],
      changed: [
        [64 * KiB, 64 * KiB],
        [40 * MiB, 64 * KiB],
        [63 * MiB, MiB],
      ],
      zeroed: [[MiB, 128 * KiB]],
    },
    {
      // Data where it was zeroed, discarded data, and data beside what is clean.
      writes: ['write -P 5 1M 64k', 'discard 40M 64k', 'write -P 6 131071 2'],
      changed: [
        [64 * KiB, 128 * KiB],
        [MiB, 64 * KiB],
      ],
      zeroed: [[40 * MiB, 64 * KiB]],
    },
    { writes: [], changed: [], zeroed: [] },
  ]
  const incrementals: Incremental[] = []
  for (const [index, { writes, changed, zeroed }] of steps.entries()) {
    const ends = `check${index + 1}`
    if (writes.length > 0) await guest(...writes)
    await bitmap('--add', disk, `check${index + 2}`)
    await bitmap('--disable', disk, ends)
    const server = await qemuNbd(t, ['-r', '-f', 'qcow2', '-B', ends, disk])
    const client = await clientOf(t, daemon, target, server.url)
    const incremental = await client.incremental(join(dir, `inc${index + 1}.raw`))
    const checksum = await client.checksum()
    await server.stop()
    t.strictSame(client.fetched, changed, 'only what has changed is fetched')
    const zeroes = incremental.dirty.filter(({ zero }) => zero)
    t.strictSame(
      zeroes.map(({ start, length }) => [start, length]),
      zeroed,
      'zeroes are not',
    )
    incrementals.push(incremental)
    await bitmap('--remove', disk, ends)
    const restored = join(dir, `restored${index + 1}.raw`)
    await restore(restored, full, incrementals)
    await compareImages(disk, restored)
    t.pass(`full and ${index + 1} incremental equal the disk`)
    const image = await daemon.addTicketFor(restored, { size: SIZE, ops: ['read'] })
    const copy = new BackupClient(target, image.url)
    t.equal(await copy.checksum(), checksum, 'and have its checksum')
    copy.close()
  }
}

async function clientOf(
  t: Test,
  daemon: Daemon,
  target: Target,
  url: string,
): Promise<BackupClient> {
  const id = await daemon.addTicket({ url, size: SIZE, ops: ['read'], dirty: true })
  const client = new BackupClient(target, `/images/${id}`)
  t.teardown(() => client.close())
  return client
}
