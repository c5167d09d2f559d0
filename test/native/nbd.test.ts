/** The threads that move data of NBD exports, against a server that is bytes. */
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { connectUnix } from '../../native/index.js'
import { NbdMover, type LinkHandlers, type NbdLink } from '../../native/nbd.js'
import { until } from '../support/wait.js'

const mover = new NbdMover()
const HIGH = 7
const MiB = 1024 * 1024

interface Heard {
  readonly bytes: Buffer[]
  readonly finished: number[]
  readonly ends: (string | number)[]
}

/** A link, the server's end of it, and what the link tells. */
async function linked(t: Test): Promise<{ link: NbdLink; server: net.Socket; heard: Heard }> {
  const directory = mkdtempSync(join(tmpdir(), 'imageio-nbd-'))
  const path = join(directory, 'socket')
  const sockets: net.Socket[] = []
  const listener = net.createServer((socket) => sockets.push(socket.on('error', () => undefined)))
  await new Promise<void>((resolve) => listener.listen(path, resolve))
  const fd = connectUnix(path)
  const heard: Heard = { bytes: [], finished: [], ends: [] }
  const handlers: LinkHandlers = {
    bytes: (bytes) => heard.bytes.push(bytes),
    finished: (cookie) => heard.finished.push(cookie),
    broken: (violation) => heard.ends.push(violation),
    lost: (errno) => heard.ends.push(errno),
  }
  const link = mover.take(fd, { dialect: 'structured', cookieHigh: HIGH }, handlers)
  new net.Socket({ fd }).destroy()
  await until('the server has the connection', () => sockets.length > 0)
  const [server] = sockets
  t.teardown(() => {
    link.cut()
    server!.destroy()
    listener.close()
    rmSync(directory, { recursive: true, force: true })
  })
  return { link, server: server!, heard }
}

function chunk(cookie: number, type: number, payload: Buffer, flags = 1): Buffer {
  const head = Buffer.alloc(20)
  head.writeUInt32BE(0x668e33ef, 0)
  head.writeUInt16BE(flags, 4)
  head.writeUInt16BE(type, 6)
  head.writeUInt32BE(HIGH, 8)
  head.writeUInt32BE(cookie, 12)
  head.writeUInt32BE(payload.length, 16)
  return Buffer.concat([head, payload])
}

function data(cookie: number, offset: number, bytes: Buffer, flags = 1): Buffer {
  const place = Buffer.alloc(8)
  place.writeBigUInt64BE(BigInt(offset))
  return chunk(cookie, 1, Buffer.concat([place, bytes]), flags)
}

const header = Buffer.alloc(28)

t.test('data of reads come to their place, in any order and any pieces', async (t) => {
  const { link, server, heard } = await linked(t)
  const targets = [1, 2, 3].map((cookie) => {
    const target = Buffer.alloc(300_000)
    link.read(header, cookie, cookie * 1000, target)
    return target
  })
  const stream = Buffer.concat(
    [3, 1, 2].map((cookie) => data(cookie, cookie * 1000, Buffer.alloc(300_000, cookie))),
  )
  for (let at = 0; at < stream.length; at += 70_001) {
    await new Promise<void>((resolve) =>
      server.write(stream.subarray(at, at + 70_001), () => resolve()),
    )
  }
  await until('all are finished', () => heard.finished.length === 3)
  t.strictSame(heard, { bytes: [], finished: [3, 1, 2], ends: [] })
  for (const [index, target] of targets.entries()) {
    t.ok(target.equals(Buffer.alloc(300_000, index + 1)))
  }
})

t.test('what is no data of a read is handed on as it came, in its order', async (t) => {
  const { link, server, heard } = await linked(t)
  const target = Buffer.alloc(100)
  link.read(header, 1, 0, target)
  const before = [chunk(9, 5, Buffer.alloc(70_000, 3)), chunk(1, 0x8002, Buffer.alloc(14), 0)]
  const behind = chunk(8, 0, Buffer.alloc(100))
  server.write(Buffer.concat([...before, chunk(1, 0, Buffer.alloc(0)), behind]))
  const expected = Buffer.concat([...before, behind])
  await until('all has come', () => Buffer.concat(heard.bytes).length === expected.length)
  t.ok(Buffer.concat(heard.bytes).equals(expected))
  t.strictSame(heard.finished, [1])
})

t.test('a server that talks without end is not listened to ahead of JavaScript', async (t) => {
  const { server, heard } = await linked(t)
  const much = chunk(9, 5, Buffer.alloc(8 * MiB, 1))
  server.write(much)
  await until('all has come', () => Buffer.concat(heard.bytes).length === much.length)
  // Some of it at a time, no more than the bound and what one turn may bring.
  t.ok(heard.bytes.every((bytes) => bytes.length <= 2 * MiB))
})

t.test('payloads are sent whole behind their headers, also when the server is slow', async (t) => {
  const { link, server } = await linked(t)
  const payloads = Array.from({ length: 20 }, (_, index) => Buffer.alloc(MiB, index))
  let sent = 0
  for (const [index, payload] of payloads.entries()) {
    link.send(header, index + 1, payload, () => sent++)
  }
  let received = 0
  let isRight = true
  const size = header.length + MiB
  server.on('data', (bytes: Buffer) => {
    for (const byte of [bytes[0]!, bytes.at(-1)!].entries()) {
      const at = received + (byte[0] === 0 ? 0 : bytes.length - 1)
      const expected = at % size < header.length ? 0 : Math.floor(at / size)
      isRight &&= byte[1] === expected
    }
    received += bytes.length
  })
  await until('all has come', () => received === payloads.length * size)
  await until('all was told', () => sent === payloads.length)
  t.ok(isRight)
})

t.test('after a cut no memory is touched, and nothing is told', async (t) => {
  const { link, server, heard } = await linked(t)
  const target = Buffer.alloc(4 * MiB)
  link.read(header, 1, 0, target)
  server.write(data(1, 0, Buffer.alloc(4 * MiB, 5)))
  await until('some has come', () => target[0] === 5)
  link.cut()
  const came = target.lastIndexOf(5)
  target.fill(0)
  link.read(header, 2, 0, target)
  server.resume() // it may have sent all, and sees the end only when it reads
  await until('the server has lost it', () => server.destroyed || server.closed)
  t.ok(target.every((byte) => byte === 0))
  t.ok(came >= 0)
  t.strictSame(
    heard.finished.filter((cookie) => cookie !== 1),
    [],
  )
  t.strictSame(heard.ends, [])
})

t.test('the end of a connection is told after what came before', async (t) => {
  const { link, server, heard } = await linked(t)
  link.read(header, 1, 0, Buffer.alloc(10))
  server.end(data(1, 0, Buffer.alloc(10, 1)))
  await until('the end', () => heard.ends.length > 0)
  t.strictSame(heard, { bytes: [], finished: [1], ends: [0] })
})

t.test('a violation is the last that is told', async (t) => {
  const { link, server, heard } = await linked(t)
  const target = Buffer.alloc(10)
  link.read(header, 1, 5, target)
  server.write(Buffer.concat([data(1, 4, Buffer.alloc(10, 1)), data(1, 5, Buffer.alloc(10, 2))]))
  await until('the end', () => heard.ends.length > 0)
  t.strictSame(heard, { bytes: [], finished: [], ends: ['a chunk outside of the request'] })
  t.ok(target.equals(Buffer.alloc(10)))
})

t.test('links come and go while others move data', async (t) => {
  for (let round = 0; round < 30; round++) {
    const { link, server, heard } = await linked(t)
    for (let cookie = 1; cookie <= 8; cookie++) {
      link.read(header, cookie, 0, Buffer.alloc(100_000))
      link.send(header, 100 + cookie, Buffer.alloc(100_000))
      server.write(data(cookie, 0, Buffer.alloc(100_000, cookie)))
    }
    server.resume()
    if (round % 2 === 0) await until('some are finished', () => heard.finished.length > 2)
    link.cut()
  }
})
