import t from 'tap'
import { truncateSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { startDaemon, type Daemon, type TestImage } from '../../support/daemon.js'
import { keepAlive, openH2, request, requestH2, type Reply } from '../../support/http.js'

const KiB = 1024
const MiB = 1024 * KiB

interface Extent {
  start: number
  length: number
  zero: boolean
  hole: boolean
}

async function extents(daemon: Daemon, image: TestImage, query = ''): Promise<Extent[]> {
  const reply = await request(daemon.remote, 'GET', `${image.url}/extents${query}`)
  if (reply.status !== 200) throw new Error(`${reply.status} ${reply.text}`)
  return reply.json as Extent[]
}

/** A file with data at these offsets, each as long as said. */
async function sparseFile(path: string, size: number, data: [number, number][]): Promise<void> {
  writeFileSync(path, '')
  truncateSync(path, size)
  const handle = await open(path, 'r+')
  for (const [offset, length] of data)
    await handle.write(Buffer.alloc(length, 'x'), 0, length, offset)
  await handle.sync()
  await handle.close()
}

const data = (start: number, length: number) => ({ start, length, zero: false, hole: false })
const zero = (start: number, length: number) => ({ start, length, zero: true, hole: false })

t.test('G. extents', async (t) => {
  const daemon = await startDaemon(t)
  const file = join(daemon.dir, 'sparse')
  const parts: [number, number][] = [
    [MiB, 64 * KiB],
    [4 * MiB, MiB],
  ]
  await sparseFile(file, 10 * MiB, parts)
  const image = await daemon.addTicketFor(file, { size: 10 * MiB })
  const all = [
    zero(0, MiB),
    data(MiB, 64 * KiB),
    zero(MiB + 64 * KiB, 3 * MiB - 64 * KiB),
    data(4 * MiB, MiB),
    zero(5 * MiB, 5 * MiB),
  ]
  const get = (url: string, headers = {}): Promise<Reply> =>
    request(daemon.remote, 'GET', url, { headers })

  t.test('122, 129: data and holes of a file, holes as zeroes', async (t) => {
    t.strictSame(await extents(daemon, image), all)
    t.strictSame(await extents(daemon, image, '?context=zero'), all)
    const full = await daemon.addImage(100_001)
    t.strictSame(await extents(daemon, full), [data(0, 100_001)])
    const reply = await get(`${image.url}/extents`)
    t.match(reply.headers['content-type'], /^application\/json/)
    t.ok(reply.text.endsWith(']\n'))
  })

  t.test('122: extents end with the ticket and with the image', async (t) => {
    const small = await daemon.addTicketFor(file, { size: 4 * MiB + 1 })
    t.strictSame(await extents(daemon, small), [...all.slice(0, 3), data(4 * MiB, 1)])
    const large = await daemon.addTicketFor(file, { size: 100 * MiB })
    t.strictSame(await extents(daemon, large), all)
  })

  t.test('122: an empty image has one empty extent', async (t) => {
    t.match(await extents(daemon, await daemon.addImage(0, { size: 100 })), [
      { start: 0, length: 0 },
    ])
  })

  t.test('122: what was zeroed and written shows up', async (t) => {
    const path = join(daemon.dir, 'changing')
    await sparseFile(path, 4 * MiB, [[0, 4 * MiB]])
    const other = await daemon.addTicketFor(path, { size: 4 * MiB, sparse: true })
    const body = JSON.stringify({ op: 'zero', offset: MiB, size: MiB, flush: true })
    t.equal((await request(daemon.remote, 'PATCH', other.url, { body })).status, 200)
    t.strictSame(await extents(daemon, other), [
      data(0, MiB),
      zero(MiB, MiB),
      data(2 * MiB, 2 * MiB),
    ])
  })

  t.test('126: extents are contiguous and joined', async (t) => {
    const path = join(daemon.dir, 'fragmented')
    const size = 64 * KiB
    await sparseFile(
      path,
      3000 * size,
      Array.from({ length: 1500 }, (_, index) => [2 * index * size, size]),
    )
    const fragmented = await daemon.addTicketFor(path, { size: 3000 * size })
    const list = await extents(daemon, fragmented)
    t.equal(list.length, 3000)
    let end = 0
    let isOrdered = true
    for (const [index, extent] of list.entries()) {
      isOrdered &&= extent.start === end && extent.zero === (index % 2 === 1)
      end = extent.start + extent.length
    }
    t.ok(isOrdered)
    t.equal(end, 3000 * size)
    const session = await openH2(daemon.remote)
    const h2 = await requestH2(session, 'GET', `${fragmented.url}/extents`)
    t.strictSame(h2.json, list)
    session.close()
    const lines = await get(`${fragmented.url}/extents`, { accept: 'application/x-ndjson' })
    t.match(lines.headers['content-type'], /^application\/x-ndjson/)
    t.strictSame(linesOf(lines), list)
  })

  t.test('127: extents longer than 4 GiB', async (t) => {
    const path = join(daemon.dir, 'large')
    await sparseFile(path, 2 ** 40, [[2 ** 33, 64 * KiB]])
    const large = await daemon.addTicketFor(path, { size: 2 ** 40 })
    t.strictSame(await extents(daemon, large), [
      zero(0, 2 ** 33),
      data(2 ** 33, 64 * KiB),
      zero(2 ** 33 + 64 * KiB, 2 ** 40 - 2 ** 33 - 64 * KiB),
    ])
  })

  t.test('129: start and length choose a window', async (t) => {
    const window = (query: string): Promise<Extent[]> => extents(daemon, image, `?${query}`)
    t.strictSame(await window(`start=${4 * MiB}`), all.slice(3))
    t.strictSame(await window(`start=${512 * KiB}&length=${MiB}`), [
      zero(512 * KiB, 512 * KiB),
      data(MiB, 64 * KiB),
      zero(MiB + 64 * KiB, 448 * KiB),
    ])
    t.strictSame(await window('length=10'), [zero(0, 10)])
    t.strictSame(await window(`start=${10 * MiB - 1}&length=100`), [zero(10 * MiB - 1, 1)])
    for (const query of ['start=-1', 'start=x', 'length=', 'length=1.5', 'start=0x10']) {
      t.equal((await get(`${image.url}/extents?${query}`)).status, 400, query)
    }
  })

  t.test('129: one object a line when asked for', async (t) => {
    for (const accept of ['application/x-ndjson', 'text/html, application/x-ndjson;q=0.9']) {
      const reply = await get(`${image.url}/extents`, { accept })
      t.match(reply.headers['content-type'], /^application\/x-ndjson/)
      t.strictSame(linesOf(reply), all)
    }
    const other = await get(`${image.url}/extents`, { accept: '*/*' })
    t.match(other.headers['content-type'], /^application\/json/)
  })

  t.test('130: another context gives 400, after the ticket was asked', async (t) => {
    for (const context of ['foo', '', 'ZERO', 'zero,dirty']) {
      t.equal((await get(`${image.url}/extents?context=${context}`)).status, 400, context)
      t.equal((await get(`/images/unknown/extents?context=${context}`)).status, 403)
    }
  })

  t.test('131-132: a file has no dirty extents', async (t) => {
    t.equal((await get(`${image.url}/extents?context=dirty`)).status, 404)
    const dirty = await daemon.addTicketFor(file, { size: 10 * MiB, dirty: true })
    t.equal((await get(`${dirty.url}/extents?context=dirty`)).status, 404)
    t.strictSame(await extents(daemon, dirty), all)
  })

  t.test('136: asking for extents opens the image for this connection', async (t) => {
    const other = await daemon.addTicketFor(file, { size: 10 * MiB })
    const agent = keepAlive(daemon.remote)
    const url = `${other.url}/extents`
    t.equal((await request(daemon.remote, 'GET', url, { agent })).status, 200)
    t.equal((await daemon.ticket(other.id)).connections, 1)
    agent.destroy()
    await daemon.ticketWhen(other.id, 'closed', (info) => info.connections === 0)
  })
})

function linesOf({ text }: Reply): unknown[] {
  if (!text.endsWith('\n')) throw new Error('the last line has no end')
  return text
    .slice(0, -1)
    .split('\n')
    .map((line) => JSON.parse(line) as unknown)
}
