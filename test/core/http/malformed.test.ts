import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { Handler, Route } from '../../../core/http/routes.js'
import { sleep, until } from '../../support/wait.js'
import type { Wire, WireResponse } from '../../support/wire.js'
import { recordingLogger } from './exchanges.js'
import {
  ask,
  gate,
  hello,
  IS_FRONTED,
  LIMITS,
  serve,
  tlsMaterial,
  type ServeOptions,
} from './serving.js'

t.test('what is no HTTP gets an answer, and the connection ends', async (t) => {
  const { open } = await serve(t, hello)
  const answers: [string, number, RegExp][] = [
    ['nonsense\r\n\r\n', 400, /not well-formed/],
    ['GET /\r\n\r\n', 400, /HTTP\/1.1 is the version/],
    ['GET  HTTP/1.1\r\n\r\n', 400, /not well-formed/],
    ['GET / HTTP/1.1\r\nno colon\r\n\r\n', 400, /not well-formed/],
    ['GET / HTTP/1.1\r\nhost: h\r\nx y: z\r\n\r\n', 400, /not well-formed/],
    ['GET / HTTP/1.1\r\nhost: h\r\n folded: x\r\n\r\n', 400, /not well-formed/],
    ['PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: +5\r\n\r\n', 400, /not well-formed/],
    ['GET / HTTP/2.0\r\nhost: h\r\n\r\n', 505, /version/],
    ['GET / HTTP/3.0\r\n\r\n', 505, /version/],
    ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 505, /version/],
    ['FLY / HTTP/1.1\r\nhost: h\r\n\r\n', 405, /method/],
    ['get / HTTP/1.1\r\nhost: h\r\n\r\n', 405, /method/],
  ]
  for (const [bytes, status, text] of answers) {
    const wire = await open()
    const reply = await wire.ask(bytes)
    t.equal(reply.status, status, JSON.stringify(bytes))
    t.match(reply.text, text)
    t.equal(reply.headers['connection'], 'close')
    t.match(reply.headers['server'], /^imageio\//)
    t.equal(reply.headers['content-type'], 'text/plain; charset=UTF-8')
    wire.end()
    t.equal(await wire.isClosedSilently(), true, 'exactly one answer')
  }
})

t.test('without the front a head in pieces is judged by the one that is wrong', async (t) => {
  for (const isFronted of new Set([IS_FRONTED, false])) {
    const { open } = await serve(t, hello, { isFronted })
    const wire = await open()
    await wire.send('get /im')
    await sleep(20)
    const { status } = await wire.ask('ages/t HTTP/1.1\r\nhost: h\r\n\r\n')
    t.equal(status, isFronted ? 405 : 400, `front: ${isFronted}`)
  }
})

t.test('a method that nobody knows is told which there are', async (t) => {
  const { open } = await serve(t, hello)
  const reply = await (await open()).ask('FLY / HTTP/1.1\r\nhost: h\r\n\r\n')
  t.equal(reply.headers['allow'], 'GET, HEAD, PUT, PATCH, POST, DELETE, OPTIONS')
})

t.test('heads larger than what the parser takes are refused', async (t) => {
  const { open } = await serve(t, hello)
  const line = await (await open()).ask(`GET /${'a'.repeat(70_000)} HTTP/1.1\r\nhost: h\r\n\r\n`)
  t.ok([414, 431].includes(line.status), `${line.status}`)
  const head = await (await open()).ask(ask('/images/t', `x: ${'v'.repeat(70_000)}`))
  t.equal(head.status, 431)
})

t.test('CONNECT is refused', async (t) => {
  const { open } = await serve(t, hello)
  const wire = await open()
  const reply = await wire.ask('CONNECT h:443 HTTP/1.1\r\nhost: h\r\n\r\n')
  t.equal(reply.status, 405)
  t.match(reply.headers['allow'], /GET/)
  wire.end()
  t.equal(await wire.isClosedSilently(), true)
})

/** The answer that must come first, then the rest of the connection. */
async function inOrder(wire: Wire): Promise<{ first: WireResponse; rest: string }> {
  const first = await wire.response()
  wire.end()
  return { first, rest: (await wire.rest()).toString() }
}

t.test('nonsense behind a request waits for its answer, then the connection ends', async (t) => {
  const { handler, open: openGate, isWaiting } = gate()
  const { open } = await serve(t, handler)
  const wire = await open()
  await wire.send(`${ask('/images/t')}nonsense\r\n\r\n`)
  await until('the request', isWaiting)
  await sleep(20)
  t.equal(wire.size, 0)
  openGate()
  const { first, rest } = await inOrder(wire)
  t.equal(first.text, 'waited t\n')
  t.equal(first.headers['connection'], 'close')
  t.equal(rest, '')
})

t.test('CONNECT behind a request waits for its answer, then the connection ends', async (t) => {
  const { handler, open: openGate, isWaiting } = gate()
  const { open } = await serve(t, handler)
  const wire = await open()
  await wire.send(`${ask('/images/t')}CONNECT h:443 HTTP/1.1\r\nhost: h\r\n\r\n`)
  await until('the request', isWaiting)
  await sleep(20)
  t.equal(wire.size, 0)
  openGate()
  const { first, rest } = await inOrder(wire)
  t.equal(first.text, 'waited t\n')
  t.notMatch(rest, /200 OK/)
})

t.test('a head that comes too slowly is 408', async (t) => {
  const { open } = await serve(t, hello, { limits: { ...LIMITS, headerTimeout: 0.2 } })
  const wire = await open()
  const reply = await wire.ask('GET /images/t HTTP/1.1\r\nhost: h\r\n')
  t.equal(reply.status, 408)
  t.match(reply.text, /too slowly/)
  wire.end()
  t.equal(await wire.isClosedSilently(), true)
})

/** A reset would take the answer along. */
t.test('who goes on sending behind such a head gets the answer, and then the end', async (t) => {
  const put = 'PUT /images/t HTTP/1.1\r\nhost: h\r\ncontent-length: 200000\r\n'
  const heads: [string, number][] = [
    [`${put}x: ${'v'.repeat(90_000)}\r\n\r\n`, 431],
    [`${put}content-length: 5\r\n\r\n`, 400],
    [`${put}transfer-encoding: chunked\r\n\r\n`, 400],
    [`${put}\r\n`.replace('\r\n', '\n'), 400],
    [`${put}\r\n`.replace('PUT', 'put'), 405],
    ['CONNECT h:443 HTTP/1.1\r\nhost: h\r\n\r\n', 405],
    [`${ask('/images/t')}nonsense\r\n\r\n`, 200],
  ]
  const dir = mkdtempSync(join(tmpdir(), 'imageio-test-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  for (const isFronted of new Set([IS_FRONTED, false])) {
    const places: ServeOptions[] = [{}, { tls: tlsMaterial() }, { path: join(dir, `${isFronted}`) }]
    for (const place of places) {
      const { open } = await serve(t, hello, { ...place, isFronted })
      for (const [head, status] of heads) {
        const about = `${Object.keys(place).join()} front: ${isFronted}, ${head.slice(0, 100)}`
        const wire = await open({ isReading: false })
        const errors: Error[] = []
        wire.socket.on('error', (error) => errors.push(error))
        await wire.send(head + 'b'.repeat(200_000))
        await sleep(20) // it is refused meanwhile
        await wire.send('b'.repeat(100_000))
        await sleep(20)
        wire.read()
        t.equal((await wire.response()).status, status, about)
        t.equal(await wire.isClosedSilently(), true, about)
        t.strictSame(errors, [], about)
      }
    }
  }
})

const reading = (end: (error: unknown) => void): Route[] => [
  {
    path: '/images/:id',
    methods: {
      PUT: async (exchange) => {
        const body = exchange.body()
        try {
          const target = Buffer.alloc(1024)
          let size = 0
          for (let read = -1; read !== 0; size += read) read = await body.read(target)
          exchange.send(200, `${size}`)
        } catch (error) {
          end(error)
          throw error
        } finally {
          body.release()
        }
      },
    },
  },
]

const PUT = 'PUT /images/t HTTP/1.1\r\nhost: h\r\n'

t.test('a body that turns to nonsense is an error of its request', async (t) => {
  const errors: unknown[] = []
  const { open } = await serve(
    t,
    reading((error) => errors.push(error)),
  )
  for (const body of ['5\r\nhello\r\nxyz\r\n', 'zz\r\n', '5\r\nhelloX']) {
    const wire = await open()
    const reply = await wire.ask(`${PUT}transfer-encoding: chunked\r\n\r\n${body}`)
    t.equal(reply.status, 400, body)
    t.match(reply.text, /not complete/)
    t.equal(reply.headers['connection'], 'close')
    wire.end()
    t.equal(await wire.isClosedSilently(), true)
  }
  t.match(errors, Array(3).fill({ code: 'ERR_INCOMPLETE_BODY' }))
})

t.test('nonsense behind a complete body is no error of its request', async (t) => {
  const { open } = await serve(
    t,
    reading(() => undefined),
  )
  for (const next of ['nonsense\r\n\r\n', 'CONNECT h:1 HTTP/1.1\r\nhost: h\r\n\r\n']) {
    for (const body of ['content-length: 5\r\n\r\nhello', 'content-length: 0\r\n\r\n']) {
      const wire = await open()
      const reply = await wire.ask(`${PUT}${body}${next}`)
      t.equal(reply.status, 200, body + next)
      t.equal(reply.headers['connection'], 'close')
      wire.end()
      t.equal(await wire.isClosedSilently(), true)
    }
  }
})

t.test('a body that turns to nonsense later is an error of its request, too', async (t) => {
  const { open } = await serve(
    t,
    reading(() => undefined),
  )
  const wire = await open()
  await wire.send(`${PUT}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n`)
  await sleep(20)
  t.equal((await wire.ask('nonsense\r\n')).status, 400)
})

t.test('a body that ends too early is answered to a client that still reads', async (t) => {
  const { open } = await serve(
    t,
    reading(() => undefined),
  )
  const wire = await open()
  await wire.send(`${PUT}content-length: 10\r\n\r\nhello`)
  wire.end()
  t.equal((await wire.response()).status, 400)
  t.equal(await wire.isClosedSilently(), true)
})

t.test('what a client sent completely is read, also when it has gone', async (t) => {
  for (const readFirst of [0, 2]) {
    const sizes: number[] = []
    const { promise, resolve } = Promise.withResolvers<undefined>()
    let isWaiting = false
    const put: Handler = async (exchange) => {
      const body = exchange.body(undefined, new AbortController().signal)
      try {
        if (readFirst > 0) sizes.push(await body.read(Buffer.alloc(readFirst)))
        isWaiting = true
        await promise
        sizes.push(await body.read(Buffer.alloc(100)), await body.read(Buffer.alloc(100)))
      } finally {
        body.release()
      }
      exchange.send(200)
    }
    const { open, lines } = await serve(t, [{ path: '/images/:id', methods: { PUT: put } }])
    const wire = await open()
    await wire.send(`${PUT}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n`)
    await until('the request', () => isWaiting)
    await wire.send('5\r\nworld\r\n0\r\n\r\n')
    wire.destroy()
    resolve(undefined)
    await until('the sizes', () => sizes.at(-1) === 0)
    await until('the end', () => lines.some(({ msg }) => msg === 'connection closed'))
    t.strictSame(sizes, readFirst > 0 ? [2, 8, 0] : [10, 0])
  }
})

t.test('a connection that ends without a request is no error', async (t) => {
  const { logger, lines } = recordingLogger()
  const { open } = await serve(t, hello, { logger })
  for (const bytes of ['', '\r\n', 'GET /im']) {
    const wire = await open()
    await wire.send(bytes)
    wire.end()
    await wire.rest()
  }
  t.notOk(lines.some(({ level }) => level >= 50))
})
