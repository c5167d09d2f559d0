/** Conformance L: the NBD client, through the running daemon. */
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { MiB } from '../../../core/units.js'
import { freePort, startDaemon, type TicketFields } from '../../support/daemon.js'
import { keepAlive, openH2, request, requestH2, type Ask, type Reply } from '../../support/http.js'
import { nbdkit, qemuNbd, qemuNbdTcp } from '../../support/nbd.js'
import {
  scriptedServer,
  USUAL_FLAGS,
  type NbdRequest,
  type Peer,
} from '../../support/nbd-script.js'
import { until } from '../../support/wait.js'
import { run, without } from '../../support/tools.js'

const skip = without('qemu-nbd', 'qemu-img', 'nbdkit')
const WRITE_ZEROES = 6
const NO_HOLE = 2

t.test('L. the NBD client', { skip }, async (t) => {
  const config = { backend_nbd: { operation_timeout: 3, connect_timeout: 2 } }
  const daemon = await startDaemon(t, { config })
  const dir = t.testdir({})
  const ask = (method: string, url: string, options: Ask = {}): Promise<Reply> =>
    request(daemon.remote, method, url, options)
  const image = async (url: string, fields: TicketFields = {}): Promise<string> =>
    `/images/${await daemon.addTicket({ url, size: 1024 * MiB, ...fields })}`
  const patch = (url: string, fields: object, options: Ask = {}): Promise<Reply> =>
    ask('PATCH', url, { ...options, body: JSON.stringify(fields) })
  const put = (url: string, body: Buffer, offset: number, query = '', options: Ask = {}) =>
    ask('PUT', url + query, {
      ...options,
      body,
      headers: { 'content-range': `bytes ${offset}-${offset + body.length - 1}/*` },
    })

  t.test('a transfer of every kind through qcow2', async (t) => {
    const file = join(dir, 'disk.qcow2')
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', file, '8M'])
    const { url } = await qemuNbd(t, ['-f', 'qcow2', '--discard=unmap', file])
    const path = await image(url, { sparse: true })
    const bytes = randomBytes(8 * MiB)
    t.equal((await put(path, bytes, 0)).status, 200)
    t.equal((await patch(path, { op: 'zero', offset: 100, size: MiB, flush: true })).status, 200)
    bytes.fill(0, 100, 100 + MiB)
    const all = await ask('GET', path)
    t.equal(all.status, 200)
    t.ok(all.body.equals(bytes))
    t.equal(all.headers['etag'], undefined)
    const part = await ask('GET', path, { headers: { range: 'bytes=99-1048700' } })
    t.equal(part.status, 206)
    t.ok(part.body.equals(bytes.subarray(99, 1_048_701)))
    const session = await openH2(daemon.remote)
    t.ok((await requestH2(session, 'GET', path)).body.equals(bytes))
    session.close()
    const facts = (await ask('OPTIONS', path)).json
    t.match(facts, {
      max_readers: 8,
      max_writers: 8,
      block_size: 1,
      features: ['checksum', 'extents', 'flush', 'zero'],
    })
    t.equal((await put(path, Buffer.alloc(10), 8 * MiB - 5)).status, 500, 'past the end')
    t.equal((await ask('GET', path, { headers: { range: `bytes=${8 * MiB}-` } })).status, 416)
  })

  t.test('203-204: TCP, names and an IPv6 address', async (t) => {
    const file = join(dir, 'named')
    writeFileSync(file, 'named'.padEnd(512))
    const start = async (host: string, name: string): Promise<number> => {
      const port = await freePort()
      await qemuNbdTcp(t, { host, port }, ['-x', name, '-r', '-f', 'raw', file])
      return port
    }
    const port = await start('127.0.0.1', 'a/b:c')
    const slash = await start('127.0.0.1', '/x')
    for (const url of [
      `nbd://127.0.0.1:${port}/a/b:c`,
      `nbd://localhost:${port}/a/b:c`,
      `nbd:127.0.0.1:${port}:exportname=a/b:c`,
      `nbd://127.0.0.1:${slash}//x`,
      `nbd://[::ffff:127.0.0.1]:${port}/a/b:c`,
    ]) {
      const reply = await ask('GET', await image(url, { ops: ['read'] }))
      t.equal(reply.text, 'named'.padEnd(512), url)
    }
    t.equal((await ask('GET', await image(`nbd://127.0.0.1:${slash}/x`))).status, 500, '205')
    const shown = await daemon.ticket(await daemon.addTicket({ url: `NBD://127.0.0.1:${port}/N` }))
    t.equal(shown.url, `nbd://127.0.0.1:${port}/N`)
  })

  t.test('205: what is not there gives 500 on use; bad URLs give 400 at once', async (t) => {
    for (const url of ['nbd:unix:/nonexistent', 'nbd:127.0.0.1:1']) {
      const reply = await ask('GET', await image(url))
      t.equal(reply.status, 500)
      t.match(reply.text, /^cannot open the image: the .*NBD server/)
    }
    for (const url of ['nbd:unix:/a:junk', 'nbd:h:1junk', 'nbd+unix:///a', 'nbd://h']) {
      await t.rejects(image(url), { message: /400 url/ })
    }
  })

  t.test('206: no NBD server gives 500, silence 504', async (t) => {
    const wrong = await scriptedServer(t, async (peer) => peer.send(Buffer.alloc(18)))
    t.equal((await ask('GET', await image(wrong))).status, 500)
    const silent = await scriptedServer(t, async () => undefined)
    t.equal((await ask('GET', await image(silent))).status, 504)
  })

  t.test('207, 213-215: servers that can do less', async (t) => {
    const modes = [
      ['--no-sr', 'memory', '4M'],
      ['--filter=nozero', 'memory', '4M'],
      [
        'eval',
        'get_size=stat -c %s $tmpdir/f 2>/dev/null || { truncate -s 4M $tmpdir/f; echo 4194304; }',
      ],
      [
        ...['--filter=blocksize-policy', 'memory', '4M', 'blocksize-minimum=4096'],
        'blocksize-error-policy=error',
      ],
    ]
    modes[2]!.push(
      'can_write=exit 0',
      'can_flush=exit 3',
      'pread=dd if=$tmpdir/f bs=1 iflag=skip_bytes,count_bytes,fullblock skip=$4 count=$3 bs=65536 2>/dev/null',
      'pwrite=dd of=$tmpdir/f oflag=seek_bytes seek=$4 conv=notrunc bs=65536 2>/dev/null',
    )
    for (const args of modes) {
      const { url } = await nbdkit(t, args)
      const path = await image(url, { sparse: true })
      const bytes = randomBytes(100_001)
      t.equal((await put(path, bytes, 999)).status, 200, args.join(' ').slice(0, 60))
      t.equal((await patch(path, { op: 'zero', offset: 1001, size: 50_000 })).status, 200)
      t.equal((await patch(path, { op: 'flush' })).status, 200)
      bytes.fill(0, 2, 50_002)
      const reply = await ask('GET', path, { headers: { range: 'bytes=999-100999' } })
      t.equal(reply.status, 206)
      t.ok(reply.body.equals(bytes))
    }
  })

  t.test('212: holes only with a sparse ticket', async (t) => {
    for (const sparse of [true, false]) {
      const seen: NbdRequest[] = []
      const url = await scriptedServer(t, async (peer) => {
        await peer.handshake({ flags: USUAL_FLAGS })
        for (;;) {
          const got = await peer.request()
          seen.push(got)
          peer.simple(got)
        }
      })
      t.equal((await patch(await image(url, { sparse }), { op: 'zero', size: 4096 })).status, 200)
      const flags = seen.filter(({ type }) => type === WRITE_ZEROES).map(({ flags }) => flags)
      t.strictSame(flags, [sparse ? 0 : NO_HOLE])
    }
  })

  t.test('216: a read-only export', async (t) => {
    const { url } = await nbdkit(t, ['--readonly', 'pattern', '64K'])
    const path = await image(url)
    t.equal((await put(path, Buffer.alloc(10), 0)).status, 500)
    t.equal((await ask('GET', path)).body.length, 65536)
  })

  t.test('218: a server that was restarted is used again, on the same connection', async (t) => {
    const file = join(dir, 'restarted')
    writeFileSync(file, Buffer.alloc(MiB, 1))
    const first = await qemuNbd(t, ['-f', 'raw', file])
    const path = await image(first.url)
    const agent = keepAlive(daemon.remote)
    t.equal((await put(path, Buffer.alloc(10, 2), 0, '', { agent })).status, 200)
    await first.kill()
    // 502 if the daemon has not noticed before: connections are watched by other threads.
    const { status } = await ask('GET', path, { agent })
    t.ok(status === 500 || status === 502, `${status}`)
    const again = await qemuNbd(t, ['-f', 'raw', file], first.socket)
    const reply = await ask('GET', path, { agent })
    t.equal(reply.status, 200)
    t.strictSame(reply.body.subarray(0, 11), Buffer.from([...Buffer.alloc(10, 2), 1]))
    t.equal((await put(path, Buffer.alloc(10, 3), 0, '?flush=n', { agent })).status, 200)
    t.equal((await patch(path, { op: 'flush' }, { agent })).status, 200)
    await again.kill()
    agent.destroy()
  })

  t.test('writes that a server took with it break the ticket, and no other', async (t) => {
    const file = join(dir, 'lost')
    writeFileSync(file, Buffer.alloc(MiB, 1))
    const first = await qemuNbd(t, ['-f', 'raw', file])
    const path = await image(first.url)
    const agent = keepAlive(daemon.remote)
    const [other, otherAgent] = [await image(first.url), keepAlive(daemon.remote)]
    t.equal((await ask('GET', other, { agent: otherAgent })).status, 200)
    t.equal((await put(path, Buffer.alloc(10, 2), 0, '?flush=n', { agent })).status, 200)
    await first.kill()
    await qemuNbd(t, ['-f', 'raw', file], first.socket)
    const flushed = await patch(other, { op: 'flush' }, { agent: otherAgent })
    t.equal(flushed.status, 200, 'of what the server of now has')
    otherAgent.destroy()
    for (const options of [{ agent }, {}]) {
      for (const reply of [
        await patch(path, { op: 'flush' }, options),
        await put(path, Buffer.alloc(10, 2), 0, '', options),
        await ask('GET', path, options),
      ]) {
        t.equal(reply.status, 500)
        t.match(reply.text, /lost written data: start over with a new ticket/)
      }
    }
    const fresh = await image(first.url)
    t.equal((await put(fresh, Buffer.alloc(10, 3), 0)).status, 200)
    agent.destroy()
  })

  t.test('also a request whose connection was just opening the export', async (t) => {
    const GO = 7
    const opening: (() => void)[] = []
    const peers: Peer[] = []
    const url = await scriptedServer(t, async (peer) => {
      peers.push(peer)
      if (peers.length > 1) await new Promise<void>((resolve) => opening.push(resolve))
      t.ok((await peer.handshake()).includes(GO))
      for (;;) peer.simple(await peer.request())
    })
    for (const late of [
      (path: string) => patch(path, { op: 'flush' }),
      (path: string) => put(path, Buffer.alloc(10), 0),
      (path: string) => patch(path, { op: 'zero', offset: 0, size: 10, flush: true }),
      (path: string) => ask('GET', path),
    ]) {
      peers.length = 0
      opening.length = 0
      const path = await image(url)
      const agent = keepAlive(daemon.remote)
      t.equal((await put(path, Buffer.alloc(10), 0, '?flush=n', { agent })).status, 200)
      const answer = late(path)
      await until('it opens the export', () => opening.length === 1)
      peers[0]!.hangUp()
      await until('the loss is noticed', async () => (await ask('OPTIONS', path)).status === 500)
      opening[0]!()
      t.equal((await answer).status, 500)
      agent.destroy()
    }
  })

  t.test('a client that goes without a flush has its writes flushed', async (t) => {
    const file = join(dir, 'gone')
    writeFileSync(file, Buffer.alloc(MiB, 1))
    const server = await qemuNbd(t, ['-f', 'raw', file])
    const path = await image(server.url)
    t.equal((await put(path, Buffer.alloc(10, 2), 0, '?flush=n')).status, 200)
    await daemon.ticketWhen(path.slice(8), 'closed', ({ connections }) => connections === 0)
    await server.kill()
    t.strictSame(readFileSync(file).subarray(0, 10), Buffer.alloc(10, 2))
  })

  t.test('a server that hangs gives 504, and DELETE an answer in time', async (t) => {
    const server = await nbdkit(t, ['memory', '1M'])
    const path = await image(server.url)
    const agent = keepAlive(daemon.remote)
    t.equal((await ask('GET', path, { agent })).status, 200)
    server.pause()
    t.teardown(() => server.resume())
    t.equal((await ask('GET', path, { agent })).status, 504)
    server.resume()
    t.equal((await ask('GET', path, { agent })).status, 200, 'and works again afterwards')
    server.pause()
    const reading = ask('GET', path, { agent })
    await daemon.ticketWhen(path.slice(8), 'active', ({ active }) => active)
    const started = performance.now()
    t.equal((await daemon.controlRequest('DELETE', path.replace('images', 'tickets'))).status, 204)
    t.ok(performance.now() - started < 4500)
    t.match((await reading).status, /403|504/)
    agent.destroy()
  })

  t.test('four connections at once', async (t) => {
    const file = join(dir, 'parallel')
    writeFileSync(file, Buffer.alloc(64 * MiB))
    const { url } = await qemuNbd(t, ['-f', 'raw', file])
    const path = await image(url)
    const parts = Array.from({ length: 4 }, () => randomBytes(16 * MiB))
    const replies = await Promise.all(parts.map((part, index) => put(path, part, index * 16 * MiB)))
    t.strictSame(new Set(replies.map(({ status }) => status)), new Set([200]))
    const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')
    const read = await ask('GET', path)
    t.equal(digest(read.body), digest(Buffer.concat(parts)))
    t.equal(digest(readFileSync(file)), digest(read.body))
  })
})
