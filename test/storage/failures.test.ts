import t from 'tap'
import { randomBytes } from 'node:crypto'
import { execFileSync } from 'node:child_process'
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { startDaemon } from '../support/daemon.js'
import { request } from '../support/http.js'
import { loopDevice, mountedFileSystem, withoutLoopDevices } from '../support/loop-device.js'
import { within } from '../support/wait.js'
import { Wire } from '../support/wire.js'

const MiB = 1024 * 1024
const HOST = 'Host: localhost\r\n'

t.test('a client that aborts an upload', async (t) => {
  const daemon = await startDaemon(t)
  for (const target of [daemon.remote, daemon.local]) {
    const image = await daemon.addImage(Buffer.alloc(20 * MiB, 'x'), { ops: ['write'] })
    const body = randomBytes(20 * MiB)
    const wire = await Wire.open(target)
    const fields = `${HOST}Content-Length: ${body.length}\r\n\r\n`
    await wire.send(`PUT ${image.url} HTTP/1.1\r\n${fields}`)
    await wire.send(body.subarray(0, 9 * MiB + 5))
    wire.socket.destroy()
    const isOver = (info: { active: boolean; connections: number }): boolean =>
      !info.active && info.connections === 0
    const { transferred = 0 } = await daemon.ticketWhen(image.id, 'ended', isOver)
    t.ok(transferred <= 9 * MiB + 5)
    const now = image.bytes()
    t.ok(now.subarray(0, transferred).equals(body.subarray(0, transferred)), 'counted is written')
    t.ok(now.subarray(9 * MiB + 5).equals(Buffer.alloc(11 * MiB - 5, 'x')), 'the rest is as it was')
    t.equal(now.length, 20 * MiB)
    const again = await request(daemon.remote, 'PUT', image.url, { body })
    t.equal(again.status, 200)
    t.ok(image.bytes().equals(body))
  }
})

const skip = await withoutLoopDevices()

t.test('a full file system gives 507 and keeps what was there', { skip }, async (t) => {
  const dir = await mountedFileSystem(t, { size: 32 * MiB })
  const daemon = await startDaemon(t)
  const path = join(dir, 'image')
  await writeFile(path, '')
  const image = await daemon.addTicketFor(path, { size: 100 * MiB })
  const kept = randomBytes(8 * MiB)
  t.equal((await request(daemon.remote, 'PUT', image.url, { body: kept })).status, 200)
  const wire = await Wire.open(daemon.remote)
  const size = 60 * MiB
  const fields = `${HOST}Content-Range: bytes ${8 * MiB}-*/*\r\nContent-Length: ${size}\r\n\r\n`
  await wire.send(`PUT ${image.url} HTTP/1.1\r\n${fields}`)
  const piece = Buffer.alloc(MiB, 'y')
  const sending = (async () => {
    for (let sent = 0; sent < size && !wire.isEnded; sent += MiB) {
      if (!(await wire.send(piece))) return
    }
  })()
  const reply = await wire.response({ timeoutMs: 20_000 })
  t.equal(reply.status, 507)
  t.match(reply.headers['connection'], /close/)
  t.notMatch(reply.text, /\/|ENOSPC/)
  await wire.rest()
  await sending
  wire.destroy()
  const body = JSON.stringify({ op: 'zero', offset: 8 * MiB, size: 90 * MiB })
  t.equal((await request(daemon.remote, 'PATCH', image.url, { body })).status, 507, 'zero, too')
  const headers = { range: `bytes=0-${8 * MiB - 1}` }
  const read = await request(daemon.remote, 'GET', image.url, { headers })
  t.ok(read.body.equals(kept), 'earlier data is intact')
  t.ok((await readFile(path)).subarray(0, 8 * MiB).equals(kept))
})

t.test('after kill -9 flushed data is there, and new tickets work', async (t) => {
  const first = await startDaemon(t)
  const body = randomBytes(4 * MiB)
  const image = await first.addImage(0, { size: 64 * MiB })
  t.equal((await request(first.remote, 'PUT', image.url, { body })).status, 200)
  const wire = await Wire.open(first.remote)
  const fields = `${HOST}Content-Range: bytes ${8 * MiB}-*/*\r\nContent-Length: ${MiB}\r\n\r\n`
  await wire.send(`PUT ${image.url} HTTP/1.1\r\n${fields}partial`)
  await first.ticketWhen(image.id, 'the upload has begun', (info) => info.active)
  first.process.kill('SIGKILL')
  t.equal(await first.exited(), 'SIGKILL')
  await wire.rest()
  const second = await startDaemon(t, { from: first })
  t.equal((await request(second.remote, 'GET', image.url)).status, 403, 'old tickets are gone')
  const again = await second.addTicketFor(image.file, { uuid: image.id, size: 64 * MiB })
  const headers = { range: `bytes=0-${4 * MiB - 1}` }
  const reply = await request(second.remote, 'GET', again.url, { headers })
  t.ok(reply.body.equals(body))
  t.equal((await request(second.remote, 'PUT', again.url, { body: 'new' })).status, 200)
})

t.test('what is no image is refused without a hang', async (t) => {
  const daemon = await startDaemon(t)
  const fifo = join(daemon.dir, 'fifo')
  execFileSync('mkfifo', [fifo])
  const dir = join(daemon.dir, 'dir')
  await mkdir(dir)
  for (const path of [fifo, dir, '/dev/zero', daemon.controlSocket]) {
    const image = await daemon.addTicketFor(path, { size: 100 })
    for (const method of ['GET', 'PUT']) {
      const content = method === 'PUT' ? { body: 'x' } : {}
      const asked = request(daemon.remote, method, image.url, content)
      const { status } = await within(`${method} ${path}`, 3000, asked)
      t.ok(status >= 400, `${method} ${path}: ${status}`)
    }
  }
})

t.test('only allowed directories are served, also through links', async (t) => {
  const plain = await startDaemon(t)
  const inside = join(plain.dir, 'inside')
  await mkdir(inside)
  const config = { backend_file: { allowed_paths: inside } }
  const daemon = await startDaemon(t, { config })
  await writeFile(join(inside, 'image'), 'inside')
  await writeFile(join(plain.dir, 'secret'), 'secret')
  await symlink(join(plain.dir, 'secret'), join(inside, 'out'))
  await symlink(join(inside, 'image'), join(plain.dir, 'in'))
  const read = async (path: string): Promise<string> => {
    const image = await daemon.addTicketFor(path, { size: 6 }).catch(() => undefined)
    if (image === undefined) return 'refused'
    const reply = await request(daemon.remote, 'GET', image.url)
    return reply.status === 200 ? reply.text : 'refused'
  }
  t.equal(await read(join(inside, 'image')), 'inside')
  t.equal(await read(join(plain.dir, 'in')), 'inside', 'a link into it')
  t.equal(await read(join(inside, 'out')), 'refused', 'a link out of it')
  t.equal(await read(join(plain.dir, 'secret')), 'refused')
  t.equal(await read(`${inside}/../secret`), 'refused')
})

t.test('nothing is written of what a device cannot hold', { skip }, async (t) => {
  const device = await loopDevice(t, { size: 4 * MiB })
  const daemon = await startDaemon(t)
  const image = await daemon.addTicketFor(device.path, { size: 100 * MiB, ops: ['write'] })
  const body = randomBytes(6 * MiB)
  t.equal((await request(daemon.remote, 'PUT', image.url, { body })).status, 500)
  const zero = JSON.stringify({ op: 'zero', size: 5 * MiB })
  t.equal((await request(daemon.remote, 'PATCH', image.url, { body: zero })).status, 500)
  t.equal((await daemon.ticket(image.id)).transferred, 0)
  t.ok((await readFile(device.path)).equals(Buffer.alloc(4 * MiB)))
})
