/** A few hundred requests, sensible and not, with and without the native front: same bytes. */
import { randomUUID } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import t from 'tap'
import { startDaemon, type TestImage } from '../../support/daemon.js'
import { Wire, type Target } from '../../support/wire.js'

const SIZE = 400_000
const SEED = 20_261_125
const HOST = 'Host: h\r\n'

/** `ends`: the client ends its side behind it, else a last request ends the connection. */
interface Case {
  readonly name: string
  readonly parts: readonly (string | Buffer)[]
  readonly ends?: boolean
}

/** Small, repeatable; good enough to cut requests at odd places. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state % below
  }
}

const body = (size: number, byte = 0x62): Buffer => Buffer.alloc(size, byte)

function put(url: string, size: number, fields = '', sent = size): (string | Buffer)[] {
  const head = `PUT ${url} HTTP/1.1\r\n${HOST}Content-Length: ${size}\r\n${fields}\r\n`
  return [head, body(sent)]
}

function chunked(url: string, sizes: readonly number[]): string {
  const chunks = [...sizes, 0].map((size) => `${size.toString(16)}\r\n${'c'.repeat(size)}\r\n`)
  return `PUT ${url} HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n${chunks.join('')}`
}

/** Sizes around that from which bodies are withheld, and the image's. */
const SIZES = [0, 1, 4096, 65_535, 65_536, 65_537, 70_000, 131_072, 262_144, 399_999, SIZE]

const UPLOAD_FIELDS = [
  ...['', 'Expect: 100-continue\r\n', 'Expect: 200-ok\r\n', 'Connection: close\r\n'],
  ...['Content-Range: bytes 0-*/*\r\n', 'Content-Range: bytes 100-*/*\r\n', 'Empty:\r\n'],
  ...['Content-Range: bytes 399990-*/*\r\n', 'Content-Range: nonsense\r\n'],
  ...['Content-Digest: sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:\r\n'],
  ...['Content-Digest: nonsense\r\n', 'If-Match: "x"\r\n', 'If-None-Match: *\r\n'],
  ...['x-imageio-withheld: 00.1 65536\r\n', 'X-Imageio-Withheld: x\r\n', 'High: \xe9\r\n'],
  ...['Trailer: content-digest\r\n', `X-Long: ${'x'.repeat(9000)}\r\n`],
  ...[`X-Long: ${'x'.repeat(15_000)}\r\n`, 'A: b\r\n'.repeat(97), 'A: b\r\n'.repeat(98)],
]

const ODD_FIELDS = [
  ...['Content-Length: 70000\r\n', 'Content-Length: 5\r\n', 'Transfer-Encoding: chunked\r\n'],
  ...['Transfer-Encoding: gzip\r\n', ' folded: x\r\n', 'Bad Name: x\r\n', 'Name : x\r\n'],
  ...['NoColon\r\n', ': x\r\n', 'Nul: a\0b\r\n', 'Cr: a\rb\r\n', 'Lf: a\nb\r\n'],
  ...['Del: a\x7fb\r\n', 'Host: i\r\n', `X-Long: ${'x'.repeat(17_000)}\r\n`],
  'A: b\r\n'.repeat(99),
]

/** Of these without the front so much is kept unread that the connection ends, too. */
const REFUSED = [
  ...['Content-Range: bytes 399990-*/*\r\n', 'Content-Range: nonsense\r\n', 'If-Match: "x"\r\n'],
  ...['Content-Digest: nonsense\r\n', 'If-None-Match: *\r\n'],
]

const LINES = [
  ...['GET /info/ HTTP/1.0', 'GET /info/ HTTP/1.1', 'GET /info/ HTTP/1.2', 'GET /info/ HTTP/2.0'],
  ...[
    'GET  /info/ HTTP/1.1',
    'GET /info/  HTTP/1.1',
    'get /info/ HTTP/1.1',
    'GET /info/',
    ' GET / HTTP/1.1',
  ],
  ...[
    'GET /in fo/ HTTP/1.1',
    'GET http://h/info/ HTTP/1.1',
    'GET /info/\x01 HTTP/1.1',
    'PURGE /info/ HTTP/1.1',
  ],
  ...[
    'CONNECT h:1 HTTP/1.1',
    'OPTIONS * HTTP/1.1',
    'G@T / HTTP/1.1',
    '\x16\x03\x01\x02\x00',
    '\r\nGET /info/ HTTP/1.1',
  ],
  ...[
    `GET /info/?${'q'.repeat(4070)} HTTP/1.1`,
    `GET /info/?${'q'.repeat(4080)} HTTP/1.1`,
    'GET /info/\xe9 HTTP/1.1',
  ],
]

const DOWNLOADS = [
  ...['', 'Range: bytes=0-0\r\n', 'Range: bytes=1-399998\r\n', 'Range: bytes=65536-\r\n'],
  ...[
    'Range: bytes=-70000\r\n',
    'Range: bytes=400000-\r\n',
    'Range: bytes=5-4\r\n',
    'Range: x\r\n',
  ],
  ...['Want-Content-Digest: sha-256=10\r\n', 'Want-Content-Digest: sha-256=10\r\nTE: trailers\r\n'],
  ...[
    'Content-Length: 5\r\n',
    'Content-Length: 5, 5\r\n',
    'Content-Length: -1\r\n',
    'Content-Length: 5x\r\n',
  ],
  ...[
    'Content-Length: 99999999999999999999\r\n',
    'Content-Length:\r\n',
    'Content-Length: 0005\r\n',
  ],
]

function cases({ url }: TestImage): Case[] {
  const list: Case[] = []
  const add = (name: string, ...parts: (string | Buffer)[]): void => void list.push({ name, parts })
  for (const size of SIZES) {
    add(`an upload of ${size}`, ...put(url, size))
    add(`chunks of ${size}`, chunked(url, [size]))
    add(`two uploads of ${size}`, ...put(url, size), ...put(url, size))
    add(`an upload of ${size} too long`, ...put(url, size, '', size), 'x')
    add(`an upload of ${size} nowhere`, ...put('/images/unknown', size))
    add(`an upload of ${size} with a query`, ...put(`${url}?flush=n`, size))
    // Whether the connection survives depends without the front on what has come when it is refused.
    if (size < 65_536 || size > 200_000)
      add(`an upload of ${size} with a bad query`, ...put(`${url}?flush=maybe`, size))
  }
  for (const fields of UPLOAD_FIELDS) {
    for (const size of [5, REFUSED.includes(fields) ? 262_144 : 70_000])
      add(`an upload of ${size} with ${fields.slice(0, 40)}`, ...put(url, size, fields))
  }
  for (const fields of ODD_FIELDS) {
    // No more than is read at once: who sends on while the server closes may lose the answer.
    for (const sent of [5, 30_000])
      add(`an upload of ${sent} with ${fields.slice(0, 40)}`, ...put(url, 70_000, fields, sent))
  }
  for (const line of LINES) {
    add(line.slice(0, 40), `${line}\r\n${HOST}\r\n`)
    add(
      `${line.slice(0, 40)} behind another`,
      `GET /info/ HTTP/1.1\r\n${HOST}\r\n${line}\r\n${HOST}\r\n`,
    )
    add(`${line.slice(0, 40)} behind an upload`, ...put(url, 70_000), `${line}\r\n${HOST}\r\n`)
    add(`${line.slice(0, 40)} with LF`, `${line}\n${HOST}\n`)
  }
  for (const method of ['GET', 'HEAD', 'OPTIONS', 'PATCH', 'POST', 'DELETE']) {
    for (const fields of DOWNLOADS)
      add(`${method} ${fields}`, `${method} ${url} HTTP/1.1\r\n${HOST}${fields}\r\nhello`)
  }
  add('downloads sent ahead', `GET ${url} HTTP/1.1\r\n${HOST}\r\n`.repeat(5))
  add(
    'uploads and downloads',
    ...put(url, 65_536),
    `GET ${url} HTTP/1.1\r\n${HOST}\r\n`,
    ...put(url, 65_537),
    ...put(url, 10),
  )
  add('more than an image', ...put(url, SIZE + 1))
  add(
    'chunks behind an upload',
    ...put(url, 65_536),
    chunked(url, [10, 70_000]),
    ...put(url, 65_536),
  )
  add(
    'an upload behind a body',
    `PATCH ${url} HTTP/1.1\r\n${HOST}Content-Length: 3\r\n\r\n{}x`,
    ...put(url, 65_536),
  )
  for (const junk of ['\0\x01', '\x16\x03\x01']) {
    const name = `${JSON.stringify(junk)}, which begins no head`
    list.push({ name, parts: [junk], ends: true })
    const first = `GET ${url} HTTP/1.1\r\n${HOST}\r\n`
    list.push({ name: `${name}, behind another`, parts: [first + junk], ends: true })
  }
  for (const sent of [0, 1, 65_535, 99_999]) {
    list.push({
      name: `an upload that ends after ${sent}`,
      parts: put(url, 100_000, '', sent),
      ends: true,
    })
  }
  for (const half of [
    '',
    'P',
    'PUT ',
    `PUT ${url} HTTP/1.1\r\n`,
    `PUT ${url} HTTP/1.1\r\n${HOST}Content-Le`,
  ]) {
    list.push({ name: `the end after ${half.slice(-10)}`, parts: [half], ends: true })
    list.push({
      name: `the end of an upload and ${half.slice(-10)}`,
      parts: [...put(url, 65_536), half],
      ends: true,
    })
  }
  return list
}

/** The bytes of a case. */
function bytesOf({ parts, ends }: Case, url: string): Buffer {
  const last = `OPTIONS ${url} HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`
  const all = ends === true ? parts : [...parts, last]
  return Buffer.concat(
    all.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)),
  )
}

/** All that comes until the connection ends. */
async function answers(target: Target, pieces: readonly Buffer[], ends = false): Promise<string> {
  const wire = await Wire.open(target)
  try {
    for (const piece of pieces) await wire.send(piece)
    if (ends) wire.end()
    return plain((await wire.rest()).toString('latin1'))
  } finally {
    wire.destroy()
  }
}

/** Without what differs between any two answers. */
function plain(text: string): string {
  return text
    .replaceAll(/^date: .*$/gim, 'date')
    .replaceAll(/"[\w-]{27}"/g, 'tag')
    .replaceAll(/imageio-test-[\da-f]+/g, 'socket')
}

/** Cut at odd places, for a parser that must not care. */
function cut(bytes: Buffer, random: (below: number) => number): Buffer[] {
  const pieces: Buffer[] = []
  let from = 0
  while (from < bytes.length && pieces.length < 20) {
    const size = random(4) === 0 ? 1 + random(100_000) : 1 + random(50)
    pieces.push(bytes.subarray(from, from + size))
    from += size
  }
  return from < bytes.length ? [...pieces, bytes.subarray(from)] : pieces
}

t.test('the native front answers as the server without it', async (t) => {
  const plain = await startDaemon(t, { config: { transport: { native: 'off' } } })
  const native = await startDaemon(t, { config: { transport: { native: 'on' } } })
  const uuid = randomUUID()
  const image = await plain.addImage(SIZE, { uuid })
  const other = await native.addImage(SIZE, { uuid })
  const random = randomNumbers(SEED)
  const list = cases(image)
  const before = Buffer.alloc(SIZE, 'a')

  for (const kind of ['local', 'remote'] as const) {
    t.test(`requests to the ${kind} service`, async (t) => {
      const differences: string[] = []
      const compare = (name: string, want: string, got: string): void => {
        if (want !== got) differences.push(`${name}: ${want.slice(0, 600)}\n--- but ---\n${got}`)
        if (!image.bytes().equals(other.bytes())) differences.push(`${name}: the images differ`)
      }
      for (const each of list) {
        const { name, ends } = each
        // Who ends a TLS connection has gone, and whether an answer is still sent is a matter of luck.
        if (kind === 'remote' && ends === true) continue
        const bytes = bytesOf(each, image.url)
        const ask = async (pieces: readonly Buffer[]): Promise<string> => {
          writeFileSync(other.file, before)
          return answers(native[kind], pieces, ends)
        }
        const expected = async (): Promise<string> => {
          writeFileSync(image.file, before)
          return answers(plain[kind], [bytes], ends)
        }
        let want = await expected()
        let got = await ask([bytes])
        // Whether a server has noticed the end when it answers is a matter of luck.
        for (let tries = 0; ends === true && want !== got && tries < 10; tries++) {
          want = await expected()
          got = await ask([bytes])
        }
        compare(name, want, got)
        // When the server closes first, what is sent after that may destroy the answer.
        if (ends === true || !want.includes('allow: OPTIONS,GET,PUT,PATCH')) continue
        compare(`${name}, in pieces`, want, await ask(cut(bytes, random)))
      }
      t.strictSame(differences, [])
      t.comment(`${list.length} requests`)
    })
  }
})
