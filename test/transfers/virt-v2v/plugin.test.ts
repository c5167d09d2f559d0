/** virt-v2v's plugin of nbdkit, the real one, which moves the data of `-o rhv-upload`. */
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  existsSync,
  openSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { Sdk } from '../../support/sdk.js'
import { run } from '../../support/tools.js'
import { until } from '../../support/wait.js'
import { type TransferSystem } from '../../support/transfers.js'
import { extract, withoutVirtV2v } from '../../support/virt-v2v.js'
import { addDisk, begin, compare, MiB, startFlows, volume, type Begun } from '../flows/system.js'

const SIZE = 64 * MiB

/** A sparse disk: data at both ends and in between, an odd piece of it. */
function sparseImage(file: string): void {
  writeFileSync(file, randomBytes(3 * MiB))
  truncateSync(file, SIZE)
  const descriptor = openSync(file, 'r+')
  writeSync(descriptor, randomBytes(12_345), 0, 12_345, 20 * MiB + 512)
  writeSync(descriptor, randomBytes(MiB), 0, MiB, SIZE - MiB)
  closeSync(descriptor)
}

/** How the plugin reaches the daemon. */
type Way = 'transfer_url' | 'proxy_url' | 'unix_socket'

t.test('virt-v2v moves data', { skip: withoutVirtV2v() }, async (t) => {
  const system = await startFlows(t)
  const plugin = extract('plugin', system.dir)
  const image = join(system.dir, 'sparse.raw')
  sparseImage(image)
  const qcow2 = join(system.dir, 'image.qcow2')
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', image, qcow2])
  const sdk = await Sdk.open(t, system.target)

  /** `command` has "$uri". Resolves with what nbdkit said. */
  const nbdkit = async (way: Way, transfer: Begun, command: string): Promise<string> => {
    const url = way === 'proxy_url' ? transfer.proxyUrl : transfer.url
    const host = way === 'unix_socket' ? ['is_ovirt_host=true'] : []
    const values = [`size=${SIZE}`, `url=${url}`, `cafile=${system.caFile}`, ...host]
    const args = ['-v', '-f', '-U', '-', 'python', plugin, ...values, '--run', command]
    return run('sh', ['-c', 'exec nbdkit "$@" 2>&1', 'sh', ...args])
  }

  const commands = {
    'nbdcopy of a sparse raw image': `nbdcopy --flush ${image} "$uri"`,
    'qemu-img convert of a qcow2 image': `qemu-img convert -n -f qcow2 -O raw ${qcow2} "$uri"`,
  }
  for (const way of ['transfer_url', 'proxy_url', 'unix_socket'] as const) {
    for (const format of ['raw', 'cow'] as const) {
      for (const [name, command] of Object.entries(commands)) {
        t.test(`${name} to a ${format} disk, by ${way}`, async (t) => {
          const id = `${way}-${format}-${name.split(' ')[0] ?? ''}`
          await addDisk(sdk, id, SIZE, format)
          const transfer = await beginAsVirtV2v(system, sdk, id)
          const said = await nbdkit(way, transfer, command)
          t.equal(/creating unix http connection/.test(said), way === 'unix_socket')
          t.match(said, "imageio features: flush=True zero=True unix_socket='")
          t.notMatch(said, /unexpected response|cannot create unix socket|Traceback/)
          await sdk.finalized(transfer.id)
          await compare(system, sdk, id, image, format === 'raw' ? 'raw' : 'qcow2')
          const { blocks } = statSync(await volume(system, sdk, id))
          t.ok(blocks * 512 < SIZE / 4, 'it is as sparse as its source')
        })
      }
    }
  }

  t.test('what was written is read again by the plugin', async () => {
    const transfer = await beginAsVirtV2v(system, sdk, 'transfer_url-cow-nbdcopy')
    for (const way of ['transfer_url', 'proxy_url', 'unix_socket'] as const) {
      const copy = join(system.dir, `${way}.copy`)
      await nbdkit(way, transfer, `nbdcopy "$uri" ${copy}`)
      await run('cmp', [image, copy])
    }
    await sdk.finalized(transfer.id)
  })

  t.test('cancelled meanwhile: it fails, and the disk is gone', async (t) => {
    await addDisk(sdk, 'cancelled', SIZE, 'cow')
    const transfer = await beginAsVirtV2v(system, sdk, 'cancelled')
    const [ready, go] = [join(system.dir, 'ready'), join(system.dir, 'go')]
    await run('mkfifo', [go])
    const command = `nbdinfo --size "$uri" >${ready}; read word <${go}; nbdcopy ${image} "$uri"`
    const failing = nbdkit('transfer_url', transfer, command).then(
      () => 'nothing',
      (error: unknown) => (error as { stdout: string }).stdout,
    )
    await until('the plugin serves', () => existsSync(ready) && statSync(ready).size > 0)
    await sdk.acted(transfer.id, 'cancel')
    await sdk.phase(transfer.id, 'finished_failure')
    writeFileSync(go, 'go\n')
    t.match(await failing, /could not (write|zero) [^]*\b403: Forbidden/)
    t.equal((await sdk.ask('GET', 'disks/cancelled')).status, 404)
  })
})

function beginAsVirtV2v(system: TransferSystem, sdk: Sdk, id: string): Promise<Begun> {
  return begin(
    system,
    sdk,
    '<format>raw</format>',
    '<inactivity_timeout>3600</inactivity_timeout>',
    `<disk id="${id}"/>`,
  )
}
