import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import t from 'tap'
import {
  announcesBody,
  checkFraming,
  isHttp1,
  MAX_FIELDS,
  MAX_HEAD,
  MAX_REQUEST_LINE,
} from '../../../core/http/framing.js'

interface Head {
  readonly method?: string
  readonly url?: string
  readonly major?: number
  readonly minor?: number
}

const HOST = ['Host', 'h']

/** A request as Node's parser would make it of these fields: name, value, name, value … */
function request(rawHeaders: readonly string[], head: Head = {}): IncomingMessage {
  const { method = 'PUT', url = '/images/t', major = 1, minor = 1 } = head
  const made = new IncomingMessage(new Socket())
  const headers: Record<string, string> = {}
  for (let index = 0; index < rawHeaders.length; index += 2) {
    headers[rawHeaders[index]!.toLowerCase()] ??= rawHeaders[index + 1]!
  }
  const versions = { httpVersionMajor: major, httpVersionMinor: minor }
  return Object.assign(made, { method, url, rawHeaders: [...rawHeaders], headers, ...versions })
}

/** The status of the refusal, or undefined. */
function judged(fields: readonly string[], head?: Head, requireHost = true): number | undefined {
  return checkFraming(request(fields, head), requireHost)?.statusCode
}

t.test('an ordinary request passes', async (t) => {
  t.equal(judged(HOST), undefined)
  t.equal(judged([...HOST, 'Content-Length', '0']), undefined)
  t.equal(judged([...HOST, 'content-length', '9007199254740991']), undefined)
  t.equal(judged([...HOST, 'Transfer-Encoding', 'chunked']), undefined)
  t.equal(judged([...HOST, 'TRANSFER-ENCODING', 'Chunked']), undefined)
  t.equal(isHttp1(request(HOST)), true)
})

t.test('HTTP/1.1 has one Host, where it is required', async (t) => {
  t.equal(judged([]), 400)
  t.equal(judged([], {}, false), undefined)
  t.equal(judged([], { minor: 0 }), undefined)
  t.equal(judged(['Host', '']), undefined)
  t.equal(judged([...HOST, ...HOST]), 400)
  t.equal(judged([...HOST, 'hOST', 'x'], {}, false), 400)
  t.equal(judged([...HOST, ...HOST], { minor: 0 }), 400)
})

t.test('Content-Length is digits, once', async (t) => {
  for (const length of ['', '+5', '-1', '1_0', '0x10', '1.0', '1e3', '5, 5', ' 5', '٥', 'five']) {
    t.equal(judged([...HOST, 'Content-Length', length]), 400, JSON.stringify(length))
  }
  t.equal(judged([...HOST, 'Content-Length', '5', 'content-length', '5']), 400)
  t.equal(judged([...HOST, 'Content-Length', '5', 'Content-Length', '6']), 400)
})

t.test('Content-Length larger than any image is 413', async (t) => {
  t.equal(judged([...HOST, 'Content-Length', '9007199254740992']), 413)
  t.equal(judged([...HOST, 'Content-Length', '9'.repeat(400)]), 413)
})

t.test('Transfer-Encoding is chunked and nothing else', async (t) => {
  const chunked = ['Transfer-Encoding', 'chunked']
  t.equal(judged([...HOST, 'Transfer-Encoding', 'gzip']), 501)
  t.equal(judged([...HOST, 'Transfer-Encoding', 'gzip, chunked']), 501)
  t.equal(judged([...HOST, 'Transfer-Encoding', 'identity']), 501)
  t.equal(judged([...HOST, 'Transfer-Encoding', '']), 501)
  t.equal(judged([...HOST, ...chunked, ...chunked]), 501)
  t.equal(judged([...HOST, ...chunked, 'Content-Length', '5']), 400)
  t.equal(judged([...HOST, ...chunked, 'Content-Length', '0']), 400)
  t.equal(judged([...HOST, ...chunked], { minor: 0 }), 400)
})

t.test('only HTTP/1 is served as such', async (t) => {
  t.equal(judged(HOST, { major: 0, minor: 9 }), 400)
  t.equal(judged(HOST, { major: 2, minor: 0 }), 505)
  t.equal(judged(HOST, { major: 1, minor: 0 }), undefined)
})

t.test('a request line may have as many bytes as agreed, and no more', async (t) => {
  const rest = 'PUT  HTTP/1.1\r\n'.length
  const url = (size: number): string => `/${'a'.repeat(size - rest - 1)}`
  t.equal(judged(HOST, { url: url(MAX_REQUEST_LINE) }), undefined)
  t.equal(judged(HOST, { url: url(MAX_REQUEST_LINE + 1) }), 414)
})

t.test('header fields may be as many as agreed, and no more', async (t) => {
  const fields = (count: number): string[] =>
    Array.from({ length: count }, (_, index) => [`x-${index}`, 'v']).flat()
  t.equal(judged([...HOST, ...fields(MAX_FIELDS - 1)]), undefined)
  t.equal(judged([...HOST, ...fields(MAX_FIELDS)]), 431)
})

t.test('a head may be as large as agreed, and no larger', async (t) => {
  const rest = 'Host: h\r\nx: \r\n'.length
  const field = (size: number): string[] => ['x', 'v'.repeat(size - rest)]
  t.equal(judged([...HOST, ...field(MAX_HEAD)]), undefined)
  t.equal(judged([...HOST, ...field(MAX_HEAD + 1)]), 431)
})

t.test('a body is announced by its length or by its coding', async (t) => {
  t.equal(announcesBody(request(HOST)), false)
  t.equal(announcesBody(request(['Content-Length', '0'])), false)
  t.equal(announcesBody(request(['Content-Length', '1'])), true)
  t.equal(announcesBody(request(['Transfer-Encoding', 'chunked'])), true)
})
