/** Conformance G 123-135 with qemu's and nbdkit's servers. */
import { truncateSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { GiB, KiB, MiB } from '../../../core/units.js'
import { startDaemon, type TicketFields } from '../../support/daemon.js'
import { request, type Reply } from '../../support/http.js'
import { nbdkit, qemuNbd } from '../../support/nbd.js'
import { run, without } from '../../support/tools.js'

interface Extent {
  start: number
  length: number
  zero: boolean
  hole?: boolean
  dirty?: boolean
}

const zero = (start: number, length: number, hole = false): Extent => ({
  start,
  length,
  zero: true,
  hole,
})
const data = (start: number, length: number): Extent => ({
  start,
  length,
  zero: false,
  hole: false,
})

const skip = without('qemu-nbd', 'qemu-img', 'qemu-io', 'nbdkit')

t.test('G. extents of NBD exports', { skip }, async (t) => {
  const daemon = await startDaemon(t)
  const dir = t.testdir({})
  const get = async (url: string, fields: TicketFields, query = ''): Promise<Reply> => {
    const id = await daemon.addTicket({ url, size: 1024 * GiB, ...fields })
    return request(daemon.remote, 'GET', `/images/${id}/extents${query}`)
  }
  const extents = async (url: string, fields: TicketFields = {}, query = ''): Promise<Extent[]> => {
    const reply = await get(url, fields, query)
    if (reply.status !== 200) throw new Error(`${reply.status} ${reply.text}`)
    return reply.json as Extent[]
  }
  const qcow2 = async (name: string, ...args: string[]): Promise<string> => {
    const file = join(dir, name)
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', ...args, file, '4M'])
    return file
  }
  const io = (file: string, ...commands: string[]): Promise<string> =>
    run('qemu-io', ['-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), file])

  t.test('123: a raw file has data and zeroes, and no holes', async (t) => {
    const file = join(dir, 'raw')
    writeFileSync(file, Buffer.alloc(64 * KiB, 1))
    truncateSync(file, MiB)
    const { url } = await qemuNbd(t, ['-r', '-f', 'raw', file])
    const expected = [data(0, 64 * KiB), zero(64 * KiB, MiB - 64 * KiB)]
    t.strictSame(await extents(url), expected)
    t.strictSame(await extents(url, {}, '?context=zero'), expected, '129')
    t.strictSame(await extents(url, { size: 100 * KiB }), [
      data(0, 64 * KiB),
      zero(64 * KiB, 36 * KiB),
    ])
    t.strictSame(await extents(url, {}, '?start=1000&length=100000'), [
      data(1000, 64 * KiB - 1000),
      zero(64 * KiB, 101_000 - 64 * KiB),
    ])
  })

  t.test('124: what qcow2 has not allocated is a hole, its zeroes are none', async (t) => {
    const file = await qcow2('alone.qcow2')
    await io(file, 'write -P 1 0 64k', 'write -z 64k 64k', 'write -P 2 1M 64k')
    const { url } = await qemuNbd(t, ['-r', '--allocation-depth', '-f', 'qcow2', file])
    const expected = [
      data(0, 64 * KiB),
      zero(64 * KiB, 64 * KiB),
      zero(128 * KiB, MiB - 128 * KiB, true),
      data(MiB, 64 * KiB),
      zero(MiB + 64 * KiB, 3 * MiB - 64 * KiB, true),
    ]
    t.strictSame(await extents(url), expected)
    t.strictSame(await extents(url, { dirty: true }), expected, '135')
    const plain = await qemuNbd(t, ['-r', '-f', 'qcow2', file])
    t.ok((await extents(plain.url)).every(({ hole }) => hole === false))
  })

  t.test('125: data of lower layers is no hole', async (t) => {
    const base = await qcow2('base.qcow2')
    await io(base, 'write -P 1 0 64k')
    const top = await qcow2('top.qcow2', '-b', base, '-F', 'qcow2')
    await io(top, 'write -P 2 1M 64k')
    const { url } = await qemuNbd(t, ['-r', '--allocation-depth', '-f', 'qcow2', top])
    t.strictSame(await extents(url), [
      data(0, 64 * KiB),
      zero(64 * KiB, MiB - 64 * KiB, true),
      data(MiB, 64 * KiB),
      zero(MiB + 64 * KiB, 3 * MiB - 64 * KiB, true),
    ])
    const image = `json:{"driver":"qcow2","file":{"driver":"file","filename":"${top}"},"backing":null}`
    const alone = await qemuNbd(t, ['-r', '--allocation-depth', image])
    t.strictSame(await extents(alone.url), [
      zero(0, MiB, true),
      data(MiB, 64 * KiB),
      zero(MiB + 64 * KiB, 3 * MiB - 64 * KiB, true),
    ])
  })

  t.test('126: many extents are contiguous and joined', async (t) => {
    const file = join(dir, 'fragmented')
    writeFileSync(file, '')
    truncateSync(file, 3000 * 64 * KiB)
    const handle = await open(file, 'r+')
    for (let index = 0; index < 3000; index += 2) {
      await handle.write(Buffer.alloc(64 * KiB, 1), 0, 64 * KiB, index * 64 * KiB)
    }
    await handle.sync()
    await handle.close()
    const { url } = await qemuNbd(t, ['-r', '-f', 'raw', file])
    const list = await extents(url)
    t.strictSame(
      list,
      Array.from({ length: 3000 }, (_, index) =>
        index % 2 === 0 ? data(index * 64 * KiB, 64 * KiB) : zero(index * 64 * KiB, 64 * KiB),
      ),
    )
  })

  t.test('127: extents over 4 GiB are joined', async (t) => {
    const { url } = await nbdkit(t, ['memory', '16G'])
    t.strictSame(await extents(url), [zero(0, 16 * GiB)])
  })

  t.test('the first extent of a large image comes soon', async (t) => {
    const { url } = await nbdkit(t, ['memory', '8T'])
    const fields = { size: 8192 * GiB }
    const started = performance.now()
    t.strictSame(await extents(url, fields), [zero(0, 8192 * GiB)])
    t.ok(performance.now() - started < 5000)
  })

  t.test('128: a server without extents is one extent of data', async (t) => {
    for (const args of [
      ['--no-sr', 'memory', '1M'],
      ['--filter=noextents', 'memory', '1M'],
    ]) {
      const { url } = await nbdkit(t, args)
      t.strictSame(await extents(url), [data(0, MiB)])
    }
  })

  t.test('130: another context gives 400', async (t) => {
    const { url } = await nbdkit(t, ['memory', '1M'])
    for (const context of ['foo', '']) {
      t.equal((await get(url, {}, `?context=${context}`)).status, 400)
    }
  })

  t.test('131-134: dirty extents want a dirty ticket and one bitmap', async (t) => {
    const file = await qcow2('dirty.qcow2')
    await io(file, 'write -P 1 0 1M')
    const bitmap = (...args: string[]): Promise<string> => run('qemu-img', ['bitmap', ...args])
    await bitmap('--add', file, 'b0')
    await io(file, 'write -P 2 64k 64k', 'write -z 256k 64k')
    const dirty = { dirty: true }
    const query = '?context=dirty'
    const none = await qemuNbd(t, ['-f', 'qcow2', file])
    t.equal((await get(none.url, dirty, query)).status, 404, '132')
    await none.stop()
    const one = await qemuNbd(t, ['-f', 'qcow2', '-B', 'b0', file])
    t.equal((await get(one.url, {}, query)).status, 404, '131')
    const of = (start: number, length: number, isDirty: boolean, isZero: boolean): Extent => ({
      start,
      length,
      dirty: isDirty,
      zero: isZero,
    })
    t.strictSame(await extents(one.url, dirty, query), [
      of(0, 64 * KiB, false, false),
      of(64 * KiB, 64 * KiB, true, false),
      of(128 * KiB, 128 * KiB, false, false),
      of(256 * KiB, 64 * KiB, true, true),
      of(320 * KiB, MiB - 320 * KiB, false, false),
      of(MiB, 3 * MiB, false, true),
    ])
    await one.stop()
    await bitmap('--add', file, 'b1')
    const two = await qemuNbd(t, ['-f', 'qcow2', '-B', 'b0', '-B', 'b1', file])
    t.equal((await get(two.url, dirty, query)).status, 404, '133')
  })
})
