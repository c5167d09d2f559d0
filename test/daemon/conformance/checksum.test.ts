import t from 'tap'
import { createHash } from 'node:crypto'
import { truncateSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { startDaemon, type Daemon, type TestImage } from '../../support/daemon.js'
import { keepAlive, openH2, request, requestH2, type Reply } from '../../support/http.js'
import { until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'
import { IMAGES, VECTORS } from '../operations/checksum-vectors.js'

const MiB = 1024 * 1024
const HOST = 'Host: localhost\r\n'

interface Block {
  readonly offset: number
  readonly size: number
  readonly digest: string
  readonly zero: boolean
}

interface Summary {
  readonly algorithm: string
  readonly block_size: number
  readonly checksum: string
  readonly size?: number
}

const ALGORITHMS = [
  ...['blake2b', 'blake2s', 'md5', 'sha1', 'sha224', 'sha256', 'sha384'],
  ...['sha3_224', 'sha3_256', 'sha3_384', 'sha3_512', 'sha512'],
]

/** So much that hashing it takes seconds. */
async function slowImage(daemon: Daemon, size = 1024 * MiB): Promise<TestImage> {
  const file = join(daemon.dir, `slow-${size}`)
  const handle = await open(file, 'w')
  const piece = Buffer.alloc(16 * MiB, 'x')
  for (let offset = 0; offset < size; offset += piece.length) await handle.write(piece)
  await handle.close()
  return daemon.addTicketFor(file, { size })
}

const SLOW = 'checksum?algorithm=sha3_512&block_size=1048576'

async function begin(daemon: Daemon, image: TestImage, query = SLOW): Promise<Wire> {
  const wire = await Wire.open(daemon.remote)
  await wire.send(`GET ${image.url}/${query} HTTP/1.1\r\n${HOST}\r\n`)
  await daemon.ticketWhen(image.id, 'the checksum has begun', (info) => info.active)
  return wire
}

function linesOf({ text }: Reply): unknown[] {
  if (!text.endsWith('\n')) throw new Error('the last line has no end')
  return text
    .slice(0, -1)
    .split('\n')
    .map((line) => JSON.parse(line) as unknown)
}

t.test('H. checksum', async (t) => {
  const daemon = await startDaemon(t)
  const get = (url: string): Promise<Reply> => request(daemon.remote, 'GET', url)
  const image = await daemon.addImage(100_001)

  t.test('139, 147: every vector over HTTP, also of odd size', async (t) => {
    for (const [name, make] of Object.entries(IMAGES)) {
      const content = make()
      const { url } = await daemon.addImage(content, { size: Math.max(content.length, 1) })
      for (const { algorithm, blockSize, checksum } of VECTORS.filter(
        (one) => one.image === name,
      )) {
        const query = `algorithm=${algorithm}&block_size=${blockSize}`
        const reply = await get(`${url}/checksum?${query}`)
        t.equal(reply.status, 200)
        t.match(reply.headers['content-type'], /^application\/json/)
        t.strictSame(reply.json, { algorithm, block_size: blockSize, checksum }, name)
      }
    }
  })

  t.test('139: the defaults are blake2b and 4 MiB', async (t) => {
    const { url } = await daemon.addImage(IMAGES.V9())
    t.strictSame((await get(`${url}/checksum`)).json, {
      algorithm: 'blake2b',
      block_size: 4 * MiB,
      checksum: '556e021bf2ab867a7aa77881673990e8f1d88e4fec0c48e555c50411f8cc6c83',
    })
  })

  t.test('140: sparse and preallocated have one checksum', async (t) => {
    const file = join(daemon.dir, 'sparse')
    writeFileSync(file, Buffer.alloc(4 * MiB, 1))
    truncateSync(file, 8 * MiB)
    const handle = await open(file, 'r+')
    await handle.write(Buffer.alloc(MiB, 2), 0, MiB, 8 * MiB)
    await handle.close()
    const { url } = await daemon.addTicketFor(file, { size: 9 * MiB })
    const reply = await get(`${url}/checksum`)
    t.match(reply.json, {
      checksum: '556e021bf2ab867a7aa77881673990e8f1d88e4fec0c48e555c50411f8cc6c83',
    })
  })

  t.test('a checksum covers no more than the ticket, and no more than the image', async (t) => {
    const small = await daemon.addTicketFor(image.file, { size: 5000 })
    const large = await daemon.addTicketFor(image.file, { size: 10 ** 12 })
    const sha256 = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest()
    const wanted = (bytes: Buffer): string => sha256(sha256(bytes)).toString('hex')
    const query = 'checksum?algorithm=sha256'
    t.match((await get(`${small.url}/${query}`)).json, {
      checksum: wanted(image.bytes().subarray(0, 5000)),
    })
    t.match((await get(`${large.url}/${query}`)).json, { checksum: wanted(image.bytes()) })
  })

  t.test('142: block sizes', async (t) => {
    const sizes = ['1048575', '16777217', '4198401', 'abc', '', '-4194304', '4194304.0', '1e7']
    for (const size of [...sizes, '0x400000', '99999999999999999999']) {
      t.equal((await get(`${image.url}/checksum?block_size=${size}`)).status, 400, size)
    }
    for (const size of [1048576, 1052672, 16777216]) {
      const reply = await get(`${image.url}/checksum?block_size=${size}`)
      t.match(reply, { status: 200, json: { block_size: size } })
    }
  })

  t.test('143-144: algorithms', async (t) => {
    for (const name of ['', 'foo', 'BLAKE2B', 'sm3', 'shake_128', 'sha512_256', 'blake2b512']) {
      t.equal((await get(`${image.url}/checksum?algorithm=${name}`)).status, 400, name)
    }
    for (const name of ALGORITHMS) {
      const reply = await get(`${image.url}/checksum?algorithm=${name}`)
      t.match(reply, { status: 200, json: { algorithm: name, checksum: /^[0-9a-f]{32,128}$/ } })
    }
  })

  t.test('145: the list needs no ticket', async (t) => {
    const paths = ['', '*', 'unknown', 'a/b', image.id].map((id) => `/images/${id}/checksum`)
    for (const path of paths) {
      const reply = await get(`${path}/algorithms`)
      t.equal(reply.status, 200, path)
      t.strictSame(reply.json, { algorithms: ALGORITHMS })
    }
    t.equal((await request(daemon.local, 'GET', `/images/x/checksum/algorithms`)).status, 200)
  })

  t.test('13, 36-37: id, algorithm and block size are looked at before the ticket', async (t) => {
    const status = async (path: string): Promise<number> => (await get(`/images/${path}`)).status
    t.equal(await status('/checksum'), 400)
    t.equal(await status('unknown/checksum?algorithm=foo'), 400)
    t.equal(await status('unknown/checksum?block_size=5'), 400)
    t.equal(await status('unknown/checksum?manifest=yes'), 400)
    const both = await get('/images/unknown/checksum?algorithm=foo&block_size=5')
    t.match(both.text, /algorithm/)
    const unknown = await get('/images/unknown/checksum')
    t.equal(unknown.status, 403)
    t.match(unknown.headers['connection'], /close/)
    const denied = await daemon.addImage(100, { ops: [] })
    t.equal((await get(`${denied.url}/checksum`)).status, 403)
    const missing = await daemon.addTicket({})
    t.equal((await get(`/images/${missing}/checksum`)).status, 500)
  })

  t.test('a checksum is activity, and moves nothing', async (t) => {
    const one = await daemon.addImage(5000, { ops: ['read'], timeout: 100 })
    const before = await daemon.ticketWhen(one.id, 'idle', (info) => info.idle_time >= 1)
    t.equal((await get(`${one.url}/checksum`)).status, 200)
    const after = await daemon.ticket(one.id)
    t.match(after, { transferred: 0, idle_time: 0, active: false })
    t.ok(after.expires > before.expires)
  })

  t.test('manifest: the digests of the blocks, and over them', async (t) => {
    const { url } = await daemon.addImage(
      Buffer.concat([IMAGES.V9(), Buffer.alloc(MiB), Buffer.alloc(MiB + 17, 'end')]),
    )
    for (const algorithm of ['sha256', 'blake2b']) {
      const query = `algorithm=${algorithm}&block_size=${MiB}`
      const total = (await get(`${url}/checksum?${query}`)).json as Summary
      const reply = await get(`${url}/checksum?${query}&manifest=y`)
      t.equal(reply.status, 200)
      t.equal(reply.headers['content-type'], 'application/x-ndjson')
      const lines = linesOf(reply)
      const summary = lines.pop()
      t.strictSame(summary, { ...total, size: 11 * MiB + 17 })
      const blocks = lines as Block[]
      t.strictSame(
        blocks.map(({ offset, size, zero }) => [offset, size, zero]),
        Array.from({ length: 12 }, (_, index) => [
          index * MiB,
          index === 11 ? 17 : MiB,
          (index >= 4 && index < 8) || index === 9,
        ]),
      )
      if (algorithm !== 'sha256') continue
      const outer = createHash('sha256')
      for (const { digest } of blocks) outer.update(Buffer.from(digest, 'hex'))
      t.equal(outer.digest('hex'), total.checksum)
      const first = createHash('sha256').update(Buffer.alloc(MiB, 1)).digest('hex')
      t.equal(blocks[0]?.digest, first)
    }
  })

  t.test('manifest: equal for equal content, however it is allocated', async (t) => {
    const file = join(daemon.dir, 'hole')
    writeFileSync(file, '')
    truncateSync(file, 33 * MiB)
    const hole = await daemon.addTicketFor(file, { size: 33 * MiB })
    const full = await daemon.addImage(Buffer.alloc(33 * MiB))
    const manifest = (one: TestImage): Promise<Reply> => get(`${one.url}/checksum?manifest=y`)
    t.equal((await manifest(hole)).text, (await manifest(full)).text)
  })

  t.test('manifest: of a large hole, streamed, also over HTTP/2', async (t) => {
    const file = join(daemon.dir, 'large')
    writeFileSync(file, '')
    truncateSync(file, 2 ** 36 + 5)
    const large = await daemon.addTicketFor(file, { size: 2 ** 40 })
    const url = `${large.url}/checksum?manifest=y`
    const h1 = await get(url)
    t.equal(h1.headers['content-length'], undefined)
    t.equal(linesOf(h1).length, 2 ** 14 + 2)
    const session = await openH2(daemon.remote)
    t.equal((await requestH2(session, 'GET', url)).text, h1.text)
    session.close()
  })

  t.test('manifest: of nothing is the total alone', async (t) => {
    const { url } = await daemon.addImage(0, { size: 10 })
    t.match(linesOf(await get(`${url}/checksum?manifest=y&algorithm=sha256`)), [
      { size: 0, checksum: /^e3b0c442/ },
    ])
  })

  t.test('HEAD computes nothing', async (t) => {
    const file = join(daemon.dir, 'large-head')
    writeFileSync(file, '')
    truncateSync(file, 2 ** 40)
    const { url } = await daemon.addTicketFor(file, { size: 2 ** 40 })
    const agent = keepAlive(daemon.remote)
    for (const query of ['', '?manifest=y', '?algorithm=md5']) {
      const reply = await request(daemon.remote, 'HEAD', `${url}/checksum${query}`, { agent })
      t.equal(reply.status, 200)
      t.equal(reply.body.length, 0)
    }
    agent.destroy()
    const session = await openH2(daemon.remote)
    t.equal((await requestH2(session, 'HEAD', `${url}/checksum?manifest=y`)).status, 200)
    session.close()
  })
})

t.test('146: cancel and admission', async (t) => {
  const daemon = await startDaemon(t, { config: { limits: { max_checksums: 1 } } })
  const image = await slowImage(daemon)
  const another = (): Promise<TestImage> =>
    daemon.addTicketFor(image.file, { size: 1024 * MiB, ops: ['read'] })

  t.test('cancel while it works gives 403 and the end, at once', async (t) => {
    const one = await another()
    const wire = await begin(daemon, one)
    const startedAt = performance.now()
    t.equal((await daemon.controlRequest('DELETE', `/tickets/${one.id}`)).status, 204)
    t.ok(performance.now() - startedAt < 1000)
    const reply = await wire.response()
    t.equal(reply.status, 403)
    t.match(reply.headers['connection'], /close/)
    t.ok(await wire.isClosedSilently())
    t.notOk(await daemon.holds(image.file))
    t.equal((await request(daemon.remote, 'GET', `${one.url}/checksum`)).status, 403)
  })

  t.test('cancel of a manifest cuts it', async (t) => {
    const one = await another()
    const wire = await begin(daemon, one, `${SLOW}&manifest=y`)
    await wire.has(1)
    t.equal((await daemon.controlRequest('DELETE', `/tickets/${one.id}`)).status, 204)
    const rest = (await wire.rest()).toString()
    t.match(rest, /^HTTP\/1.1 200 /)
    t.notMatch(rest, /checksum/)
  })

  t.test('a client that takes nothing of its manifest is cut, and costs no memory', async (t) => {
    const file = join(daemon.dir, 'enormous')
    writeFileSync(file, '')
    truncateSync(file, 2 ** 42)
    const one = await daemon.addTicketFor(file, { size: 2 ** 42 })
    const before = daemon.residentSize()
    const wire = await Wire.open(daemon.remote, { isReading: false })
    const query = `checksum?manifest=y&block_size=${MiB}`
    await wire.send(`GET ${one.url}/${query} HTTP/1.1\r\n${HOST}\r\n`)
    await daemon.ticketWhen(one.id, 'it has begun', ({ active }) => active)
    let size = daemon.residentSize()
    const hasSettled = (): boolean => {
      const grown = daemon.residentSize() - size
      size += grown
      return Math.abs(grown) < MiB
    }
    await until('nothing grows any more', hasSettled, { everyMs: 300 })
    t.ok((await daemon.ticket(one.id)).active)
    const grown = daemon.residentSize() - before
    t.ok(grown < 100 * MiB, `${grown}`)
    const startedAt = performance.now()
    t.equal((await daemon.controlRequest('DELETE', `/tickets/${one.id}`)).status, 204)
    t.ok(performance.now() - startedAt < 1000)
    t.notOk(await daemon.holds(file))
    wire.destroy()
  })

  t.test('a second checksum gets 503 and when to try again, also for another image', async (t) => {
    const [one, two] = [await another(), await daemon.addImage(100)]
    const wire = await begin(daemon, one)
    for (const query of ['', '?manifest=y']) {
      const reply = await request(daemon.remote, 'GET', `${two.url}/checksum${query}`)
      t.equal(reply.status, 503)
      t.match(reply.headers['retry-after'], /^\d+$/)
    }
    t.equal((await request(daemon.remote, 'HEAD', `${two.url}/checksum`)).status, 200)
    t.equal((await request(daemon.remote, 'GET', two.url)).status, 200, 'others are served')
    wire.destroy()
    await daemon.ticketWhen(one.id, 'ended with its client', (info) => !info.active)
    t.equal((await request(daemon.remote, 'GET', `${two.url}/checksum`)).status, 200)
  })

  t.test('a long one keeps its ticket alive', async (t) => {
    const one = await daemon.addTicketFor(image.file, { size: 1024 * MiB, timeout: 1 })
    const wire = await begin(daemon, one)
    const { expires } = await daemon.ticket(one.id)
    await daemon.ticketWhen(one.id, 'renewed', (info) => info.active && info.expires > expires)
    t.pass()
    wire.destroy()
  })
})
