import { randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import { startDaemon, type Daemon, type TestImage } from '../../support/daemon.js'
import { openH2, request, requestH2, type Ask, type Reply } from '../../support/http.js'
import { notFasterThan } from '../../support/rate.js'
import { until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'

const KiB = 1024
const MiB = 1024 * KiB
const HOST = 'Host: localhost\r\n'
const CHUNKED = { 'transfer-encoding': 'chunked' }
/** Nothing after the first 1024 bytes, in the time of a test. */
const HELD = { max_bytes_per_second: 1 }

type Client = (method: string, image: TestImage, ask?: Ask) => Promise<Reply>

/** One for each way to the daemon. */
async function clients(t: Test, daemon: Daemon): Promise<Record<'h1' | 'h2' | 'local', Client>> {
  const session = await openH2(daemon.remote)
  t.teardown(() => session.destroy())
  return {
    h1: (method, { url }, ask) => request(daemon.remote, method, url, ask),
    h2: (method, { url }, ask) => requestH2(session, method, url, ask),
    local: (method, { url }, ask) => request(daemon.local, method, url, ask),
  }
}

async function get(daemon: Daemon, { url }: TestImage): Promise<Wire> {
  const wire = await Wire.open(daemon.remote)
  await wire.send(`GET ${url} HTTP/1.1\r\n${HOST}\r\n`)
  return wire
}

/** Of an upload of `size` bytes the first ones. */
async function put(
  daemon: Daemon,
  { url }: TestImage,
  size: number,
  sent = 64 * KiB,
): Promise<Wire> {
  const wire = await Wire.open(daemon.remote)
  await wire.send(`PUT ${url} HTTP/1.1\r\n${HOST}Content-Length: ${size}\r\n\r\n`)
  await wire.send(Buffer.alloc(sent, 'x'))
  return wire
}

t.test('a limit of a ticket', async (t) => {
  const daemon = await startDaemon(t, { config: { limits: { min_body_rate: 100_000 } } })
  const ways = await clients(t, daemon)

  t.test('holds for downloads and uploads, however they come', async (t) => {
    const rate = 128 * KiB
    const size = 160 * KiB
    const limited = { max_bytes_per_second: rate }
    const content = randomBytes(size)
    const works = Object.entries(ways).flatMap(([name, ask]) => {
      const download = async (): Promise<void> => {
        const image = await daemon.addImage(content, limited)
        const { status, body } = await ask('GET', image)
        t.equal(status, 200, name)
        t.ok(body.equals(content), name)
      }
      const upload = async (headers: Record<string, string>): Promise<void> => {
        const image = await daemon.addImage(Buffer.alloc(size), limited)
        t.equal((await ask('PUT', image, { body: content, headers })).status, 200, name)
        t.ok(image.bytes().equals(content), name)
      }
      const known = { 'content-length': String(size) }
      return [
        notFasterThan(t, `download, ${name}`, rate, size, download),
        notFasterThan(t, `upload, ${name}`, rate, size, () => upload(known)),
        notFasterThan(t, `upload of unknown length, ${name}`, rate, size, () =>
          upload(name === 'h2' ? {} : CHUNKED),
        ),
      ]
    })
    await Promise.all(works)
  })

  t.test('holds for all connections together, in both directions', async (t) => {
    const rate = 256 * KiB
    const image = await daemon.addImage(64 * KiB, { max_bytes_per_second: rate })
    const body = image.bytes()
    await notFasterThan(t, 'six', rate, 6 * body.length, async () => {
      const asked = [1, 2, 3].flatMap(() => [
        ways.h1('GET', image),
        ways.h1('PUT', image, { body }),
      ])
      for (const { status } of await Promise.all(asked)) t.equal(status, 200)
    })
  })

  t.test('may hold back for longer than clients may be silent or slow', async (t) => {
    // 1024 bytes each 1.5 s.
    const fields = { max_bytes_per_second: 683, inactivity_timeout: 1 }
    const content = randomBytes(3 * KiB)
    const works = Object.entries(ways).map(async ([name, ask]) => {
      const [read, written] = [
        await daemon.addImage(content, fields),
        await daemon.addImage(3 * KiB, fields),
      ]
      const download = ask('GET', read)
      t.equal((await ask('PUT', written, { body: content })).status, 200, name)
      t.ok(written.bytes().equals(content), name)
      t.ok((await download).body.equals(content), name)
    })
    await Promise.all(works)
  })

  t.test('is changed, and taken away, while transfers run', async (t) => {
    const size = 8 * MiB
    const content = randomBytes(size)
    const image = await daemon.addImage(content, HELD)
    const path = `/tickets/${image.id}`
    const transfers = [ways.h1('GET', image), ways.local('PUT', image, { body: content })]
    t.match(await daemon.ticketWhen(image.id, 'begun', ({ active }) => active), HELD)
    const faster = { max_bytes_per_second: 2 * MiB }
    t.equal((await daemon.controlRequest('PATCH', path, faster)).status, 200)
    t.match(await daemon.ticket(image.id), faster)
    await until('some has moved', async () => {
      const { json } = await daemon.controlRequest('GET', '/tickets')
      return (json as { url: string; moved: number }[]).some(
        ({ url, moved }) => url === `file://${image.file}` && moved > MiB,
      )
    })
    const none = { max_bytes_per_second: 0 }
    t.equal((await daemon.controlRequest('PATCH', path, none)).status, 200)
    t.notOk('max_bytes_per_second' in (await daemon.ticket(image.id)))
    for (const { status } of await Promise.all(transfers)) t.equal(status, 200)
    t.ok(image.bytes().equals(content))
  })

  t.test('is no limit for what moves no bytes of the image', async (t) => {
    const image = await daemon.addImage(MiB, { ...HELD, sparse: true })
    const held = await get(daemon, image)
    await until('bytes', () => held.size > KiB)
    const body = JSON.stringify({ op: 'zero', offset: 0, size: MiB, flush: true })
    t.equal((await ways.h1('PATCH', image, { body })).status, 200)
    for (const rest of ['/checksum', '/checksum?manifest=y', '/extents']) {
      t.equal((await request(daemon.remote, 'GET', image.url + rest)).status, 200, rest)
    }
    t.equal((await ways.h1('HEAD', image)).status, 200)
    held.destroy()
  })

  t.test('does not keep a ticket from being removed', async (t) => {
    const image = await daemon.addImage(MiB, HELD)
    const begun = await get(daemon, image)
    await until('bytes', () => begun.size > KiB)
    const waiting = await get(daemon, image)
    const upload = await put(daemon, image, MiB)
    const session = await openH2(daemon.remote)
    t.teardown(() => session.destroy())
    const stream = requestH2(session, 'PUT', image.url, { body: Buffer.alloc(MiB) })
    await daemon.ticketWhen(image.id, 'all four', ({ connections }) => connections === 4)
    t.equal((await daemon.controlRequest('DELETE', `/tickets/${image.id}`)).status, 204)
    t.notOk(await daemon.holds(image.file))
    t.ok((await begun.rest()).length < MiB, 'cut')
    t.equal((await waiting.response()).status, 403, 'nothing was sent yet')
    t.equal((await upload.response()).status, 403)
    t.equal((await stream).status, 403)
  })

  t.test('keeps a client that has left for no longer than to its next turn', async (t) => {
    const image = await daemon.addImage(MiB, { max_bytes_per_second: 8 * KiB })
    const session = await openH2(daemon.remote)
    const stream = requestH2(session, 'PUT', image.url, { body: Buffer.alloc(MiB) })
    stream.catch(() => undefined)
    const wires = [await get(daemon, image), await get(daemon, image)]
    wires.push(await put(daemon, image, MiB, 4 * KiB))
    await daemon.ticketWhen(image.id, 'all four', ({ connections }) => connections === 4)
    await until('bytes', () => (wires[0]?.size ?? 0) > 2 * KiB)
    for (const wire of wires) wire.destroy()
    session.destroy()
    const left = await daemon.ticketWhen(image.id, 'left', ({ active }) => !active)
    t.equal(left.canceled, false)
    await daemon.ticketWhen(image.id, 'closed', ({ connections }) => connections === 0)
  })
})

t.test('a limit for all', async (t) => {
  const rate = 2 * MiB
  // That a client has left is noticed at its next turn, which may be later than the end of the test.
  const config = { limits: { max_bytes_per_second: rate }, daemon: { shutdown_timeout: 1 } }
  const daemon = await startDaemon(t, { config })

  t.test(
    'holds for tickets together, which share it evenly, whatever connections they have',
    async (t) => {
      const images = [await daemon.addImage(64 * MiB), await daemon.addImage(64 * MiB)] as const
      const total = 4 * MiB
      let one: Wire[] = []
      let four: Wire[] = []
      const sum = (wires: Wire[]): number => wires.reduce((size, wire) => size + wire.size, 0)
      await notFasterThan(t, 'together', rate, total, async () => {
        one = [await get(daemon, images[0])]
        four = await Promise.all([1, 2, 3, 4].map(() => get(daemon, images[1])))
        await until('enough', () => sum(one) + sum(four) >= total, { timeoutMs: 30_000 })
      })
      const part = sum(one) / (sum(one) + sum(four))
      t.ok(part > 0.4 && part < 0.6, `${part}`)
      for (const wire of [...one, ...four]) wire.destroy()
    },
  )

  t.test('leaves to others what a ticket may not use', async (t) => {
    const slow = await get(daemon, await daemon.addImage(16 * MiB, HELD))
    const fast = await get(daemon, await daemon.addImage(3 * MiB))
    t.equal((await fast.response({ timeoutMs: 30_000 })).body.length, 3 * MiB)
    t.ok(slow.size < 64 * KiB)
    slow.destroy()
  })
})

t.test('held transfers do not keep a daemon from ending', async (t) => {
  const config = { limits: { max_bytes_per_second: 1 }, daemon: { shutdown_timeout: 1 } }
  const daemon = await startDaemon(t, { config })
  const image = await daemon.addImage(MiB)
  const wires = [await get(daemon, image)]
  await until('bytes', () => (wires[0]?.size ?? 0) > KiB)
  wires.push(await get(daemon, image), await put(daemon, image, MiB))
  const session = await openH2(daemon.remote)
  requestH2(session, 'PUT', image.url, { body: Buffer.alloc(MiB) }).catch(() => undefined)
  await daemon.ticketWhen(image.id, 'all four', ({ connections }) => connections === 4)
  await daemon.stop()
  t.equal(daemon.isRunning, false)
  for (const wire of wires) wire.destroy()
  session.destroy()
})
