/** A few hundred requests, sensible and not, sent to the daemon and through the proxy: same answers. */
import t from 'tap'
import { randomBytes } from 'node:crypto'
import { startPair, type ProxiedImage } from '../../support/proxy.js'
import { until } from '../../support/wait.js'
import { Wire, type Target, type WireResponse } from '../../support/wire.js'

const SIZE = 100_000
const SEED = 20_251_125

const METHODS = ['GET', 'GET', 'GET', 'HEAD', 'PUT', 'PATCH', 'OPTIONS', 'POST', 'DELETE']
const PATHS = ['', '', '', '', '/extents', '/checksum', '/checksum/algorithms', '/nothing']
const QUERIES = [
  ...['', '', '', '', '?flush=n', '?flush=y', '?flush=x', '?flush=', '?close=y', '?context=zero'],
  ...['?context=dirty', '?context=', '?start=5&length=7', '?start=100000', '?start=x', '?length=0'],
  ...['?algorithm=sha256', '?algorithm=md4', '?block_size=1048576', '?block_size=1', '?manifest=y'],
  ...['?manifest=z', '?a=b&c=%20d', '?%zz', '?start=0&start=9'],
]
const RANGES = [
  ...['bytes=0-0', 'bytes=0-99999', 'bytes=99999-', 'bytes=-1', 'bytes=-100000', 'bytes=-200000'],
  ...[
    'bytes=0-100000',
    'bytes=100000-',
    'bytes=-0',
    'bytes=5-4',
    'bytes=0-1,5-6',
    'bytes=',
    'x=1-2',
  ],
  ...['bytes=18446744073709551616-', 'bytes=1-18446744073709551617', 'BYTES=0-1', 'bytes=0 - 1'],
]
const CONTENT_RANGES = [
  ...[
    'bytes 0-9/*',
    'bytes 5-*/*',
    'bytes 99990-99999/100000',
    'bytes 99999-100000/*',
    'bytes 5-4/*',
  ],
  ...[
    'bytes */100',
    'bytes 0-9/5',
    'bytes=0-9/*',
    'bytes 100000-*/*',
    'bytes 184467440737095516160-*/*',
  ],
]
const BODIES = [
  ...['', 'x', '0123456789', '{"op": "flush"}', '{"op": "zero", "size": 10, "offset": 5}'],
  ...[
    '{"op": "zero", "size": 100001}',
    '{"op": "zero", "size": -1}',
    '{"op": "zero", "size": 5.5}',
  ],
  ...[
    '{"op": "zero", "size": 18446744073709551616}',
    '{"op": "zero"}',
    '{"op": "trim"}',
    '[1]',
    '{',
  ],
  ...['{"op": "zero", "size": 0, "flush": true}', '{"op": "zero", "size": 1, "flush": 1}', 'null'],
]
const FIELDS = [
  ...['Accept: application/x-ndjson', 'If-None-Match: *', 'If-None-Match: "x"', 'If-Match: "x"'],
  ...[
    'If-Match: *',
    'If-Range: "x"',
    'Want-Content-Digest: sha-256=1',
    'TE: trailers',
    'Origin: a',
  ],
  ...[
    'Expect: 100-continue',
    'Content-Digest: sha-256=:AAAA:',
    'Content-Type: a/b',
    'Connection: close',
  ],
  ...['Access-Control-Request-Method: PUT', 'User-Agent: test', 'Accept: */*', 'Cookie: a=b'],
]

/** What an answer is compared by. Server and date are each one's own. */
const COMPARED = [
  ...['content-length', 'content-type', 'content-range', 'content-disposition', 'accept-ranges'],
  ...['etag', 'allow', 'content-digest', 'trailer', 'connection', 'transfer-encoding', 'location'],
  ...['access-control-allow-origin', 'access-control-allow-methods', 'retry-after'],
]

t.test('direct and through the proxy', async (t) => {
  const { daemon, proxy, ...rest } = await pairOf(t)
  const random = generator(SEED)
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!
  let compared = 0
  for (let count = 0; count < 400; count++) {
    const method = pick(METHODS)
    const target = pick(PATHS) + pick(QUERIES)
    const fields: string[] = []
    if (random() < 0.5) fields.push(`Range: ${pick(RANGES)}`)
    if (method === 'PUT' && random() < 0.6) fields.push(`Content-Range: ${pick(CONTENT_RANGES)}`)
    for (let extra = 0; extra < 2; extra++) if (random() < 0.5) fields.push(pick(FIELDS))
    const body = method === 'PUT' || method === 'PATCH' ? pick(BODIES) : ''
    const isChunked = method === 'PUT' && random() < 0.3
    const ask = (to: Target, image: ProxiedImage) =>
      answer(to, { method, url: `${image.url}${target}`, fields, body, isChunked })
    const direct = await ask(daemon.remote, rest.direct)
    const relayed = await ask(proxy.remote, rest.relayed)
    const what = `${method} ${target} ${fields.join('; ')} ${body} ${isChunked}`
    // A range outside of the ticket is refused before the daemon can say that the image has changed.
    const isOrder = direct.status === 412 && relayed.status === 416
    if (!isOrder) t.strictSame(facts(relayed, body), facts(direct, body), what)
    // What of a refused body was stored is stored a moment after the proxy's own refusal.
    await until('the images are equal', () => rest.relayed.bytes().equals(rest.direct.bytes()))
    compared++
  }
  t.equal(compared, 400)
})

/** Two images with the same content: one is used directly, one through the proxy. */
async function pairOf(t: Parameters<typeof startPair>[0]) {
  const pair = await startPair(t, {
    daemon: { config: { local: { enable: false } }, skips: ['local'] },
    proxy: { local: { enable: false } },
    skips: ['local'],
  })
  const content = randomBytes(SIZE)
  const fields = { filename: 'disk.img', sparse: true, transfer_id: 'transfer' }
  const direct = await pair.addImage(content, fields)
  const relayed = await pair.addImage(content, fields)
  return { daemon: pair.daemon, proxy: pair.proxy, direct, relayed }
}

interface Question {
  readonly method: string
  readonly url: string
  readonly fields: readonly string[]
  readonly body: string
  readonly isChunked: boolean
}

async function answer(to: Target, { method, url, fields, body, isChunked }: Question) {
  const wire = await Wire.open(to)
  try {
    const framing = isChunked ? 'Transfer-Encoding: chunked' : `Content-Length: ${body.length}`
    const head = [`${method} ${url} HTTP/1.1`, 'Host: localhost', framing, ...fields]
    const chunk = body === '' ? '' : `${body.length.toString(16)}\r\n${body}\r\n`
    const sent = isChunked ? `${chunk}0\r\n\r\n` : body
    let response = await wire.ask(`${head.join('\r\n')}\r\n\r\n${sent}`, {
      isHead: method === 'HEAD',
    })
    if (response.status === 100) response = await wire.response({ isHead: method === 'HEAD' })
    return response
  } finally {
    wire.destroy()
  }
}

/** Whether a refused body has already been read when the answer goes out is a matter of luck. */
function facts({ status, headers, body }: WireResponse, sent: string): Map<string, unknown> {
  const all = new Map<string, unknown>([
    ['status', status],
    ['body', body.toString('latin1')],
  ])
  for (const name of COMPARED) all.set(name, headers[name])
  all.set('etag', headers['etag'] !== undefined)
  if (status >= 400 && sent !== '') all.delete('connection')
  return all
}

/** Mulberry32: the same requests in each run. */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
