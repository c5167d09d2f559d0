import t, { type Test } from 'tap'
import { randomBytes } from 'node:crypto'
import { open, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { startDaemon, type Daemon } from '../support/daemon.js'
import { request } from '../support/http.js'
import {
  loopDevice,
  mountedFileSystem,
  mountedTmpfs,
  withoutLoopDevices,
} from '../support/loop-device.js'

const MiB = 1024 * 1024
const SIZE = 24 * MiB

interface Extent {
  start: number
  length: number
  zero: boolean
}

/** Writes and zeroes off every block, and compares the whole image with what it must be. */
async function exercise(t: Test, daemon: Daemon, path: string, sparse: boolean): Promise<void> {
  const image = await daemon.addTicketFor(path, { size: SIZE, sparse })
  const expected = Buffer.alloc(SIZE)
  const put = async (offset: number, size: number): Promise<void> => {
    const body = randomBytes(size)
    body.copy(expected, offset)
    const headers = { 'content-range': `bytes ${offset}-${offset + size - 1}/${SIZE}` }
    const reply = await request(daemon.remote, 'PUT', `${image.url}?flush=n`, { headers, body })
    t.equal(reply.status, 200, `put ${size} at ${offset}: ${reply.text}`)
  }
  const zero = async (offset: number, size: number): Promise<void> => {
    expected.fill(0, offset, offset + size)
    const body = JSON.stringify({ op: 'zero', offset, size, flush: true })
    const reply = await request(daemon.remote, 'PATCH', image.url, { body })
    t.equal(reply.status, 200, `zero ${size} at ${offset}: ${reply.text}`)
  }
  await put(0, SIZE)
  await zero(4 * MiB, 8 * MiB)
  await put(5 * MiB + 7, 100_003)
  await zero(MiB - 13, 2 * MiB + 29)
  await zero(16 * MiB + 511, 3)
  await put(SIZE - 5000, 5000)
  await put(1, 1)
  const whole = await request(daemon.remote, 'GET', image.url)
  t.equal(whole.status, 200)
  t.ok(whole.body.equals(expected), 'the daemon reads what was written')
  const headers = { range: 'bytes=4095-12289' }
  const part = await request(daemon.local, 'GET', image.url, { headers })
  t.ok(part.body.equals(expected.subarray(4095, 12_290)), 'a part off every block')
  const handle = await open(path)
  const { buffer } = await handle.read(Buffer.alloc(SIZE), 0, SIZE, 0)
  await handle.close()
  t.ok(buffer.equals(expected), 'so do others')
  const list = (await request(daemon.remote, 'GET', `${image.url}/extents`)).json as Extent[]
  let end = 0
  for (const { start, length, zero: isZero } of list) {
    t.equal(start, end, 'contiguous')
    end += length
    if (isZero) t.ok(expected.subarray(start, end).equals(Buffer.alloc(length)), 'zero is zero')
  }
  t.equal(end, SIZE)
}

const skip = await withoutLoopDevices()

for (const sectorSize of [512, 4096]) {
  t.test(`51: a block device with sectors of ${sectorSize} bytes`, { skip }, async (t) => {
    const { path } = await loopDevice(t, { size: SIZE, sectorSize })
    const daemon = await startDaemon(t, { config: { daemon: { max_connections: 6 } } })
    const image = await daemon.addTicketFor(path, { size: SIZE })
    const options = await request(daemon.remote, 'OPTIONS', image.url)
    const facts = { max_readers: 6, max_writers: 6, size: SIZE }
    t.match(options.json, facts)
    t.ok((options.json as { block_size: number }).block_size >= sectorSize)
    await exercise(t, daemon, path, false)
    await exercise(t, daemon, path, true)
    const past = await daemon.addTicketFor(path, { size: SIZE + MiB })
    const headers = { 'content-range': `bytes ${SIZE - 1}-${SIZE}/*` }
    const reply = await request(daemon.remote, 'PUT', past.url, { headers, body: 'xy' })
    t.ok(reply.status >= 400, `past the end of the device: ${reply.status}`)
    t.equal((await request(daemon.remote, 'GET', past.url)).body.length, SIZE)
  })
}

t.test('files on ext4', { skip }, async (t) => {
  for (const sectorSize of [512, 4096]) {
    const dir = await mountedFileSystem(t, { size: 128 * MiB, sectorSize })
    const daemon = await startDaemon(t)
    for (const sparse of [true, false]) {
      const path = join(dir, `image-${sparse}`)
      await writeFile(path, '')
      await exercise(t, daemon, path, sparse)
      t.equal((await stat(path)).size, SIZE)
    }
  }
})

t.test('files on tmpfs', { skip }, async (t) => {
  const dir = await mountedTmpfs(t, { size: 128 * MiB })
  const daemon = await startDaemon(t)
  for (const sparse of [true, false]) {
    const path = join(dir, `image-${sparse}`)
    await writeFile(path, '')
    await exercise(t, daemon, path, sparse)
  }
})
