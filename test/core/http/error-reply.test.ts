import type { ServerResponse } from 'node:http'
import t from 'tap'
import { ServiceError } from '../../../core/errors.js'
import { errorPage, replyError } from '../../../core/http/error-reply.js'
import {
  BadRequestError,
  ClientGoneError,
  MethodNotAllowedError,
  RangeNotSatisfiableError,
} from '../../../core/http/errors.js'
import { exchangeWith, recordingLogger, type LogLine } from './exchanges.js'

class BusyError extends ServiceError {
  readonly code = 'ERR_BUSY'
  readonly statusCode = 503
  readonly retryAfter = 5
}

interface Replied {
  readonly status: number
  readonly text: string
  readonly header: (name: string) => unknown
  readonly lines: LogLine[]
}

/** What is sent and logged of an error. */
function replied(error: unknown): Replied {
  const { logger, lines } = recordingLogger()
  const { exchange, response } = exchangeWith({}, { logger })
  const body: string[] = []
  const end = (chunk: Buffer): ServerResponse => {
    body.push(chunk.toString())
    return response
  }
  Object.assign(response, { end })
  replyError(exchange, error)
  const header = (name: string): unknown => response.getHeader(name)
  return { status: response.statusCode, text: body.join(), header, lines }
}

t.test('a known error is its status and one line of text', async (t) => {
  const { status, text, header, lines } = replied(new BadRequestError('size is missing'))
  t.equal(status, 400)
  t.equal(text, 'size is missing\n')
  t.equal(header('content-type'), 'text/plain; charset=UTF-8')
  t.equal(header('content-length'), text.length)
  const facts = { level: 40, code: 'ERR_BAD_REQUEST', status: 400, reason: 'size is missing' }
  t.match(lines, [facts])
  t.equal(lines.length, 1)
})

t.test('what an error knows besides goes into header fields', async (t) => {
  const allow = replied(new MethodNotAllowedError(['GET', 'PUT']))
  t.equal(allow.status, 405)
  t.equal(allow.header('allow'), 'GET, PUT')
  const range = replied(new RangeNotSatisfiableError('outside', 2n ** 64n))
  t.equal(range.status, 416)
  t.equal(range.header('content-range'), `bytes */${2n ** 64n}`)
  t.equal(replied(new RangeNotSatisfiableError('no')).header('content-range'), undefined)
  const busy = replied(new BusyError('too many'))
  t.equal(busy.status, 503)
  t.equal(busy.header('retry-after'), '5')
})

t.test(
  'an unknown error is 500 without a word about it, and with its stack in the log',
  async (t) => {
    for (const error of [
      new Error('/secret/path: EACCES'),
      'a string',
      undefined,
      { status: 200 },
    ]) {
      const { status, text, lines } = replied(error)
      t.equal(status, 500)
      t.equal(text, 'internal error, the log of the server knows more\n')
      t.match(lines, [{ level: 50, code: 'ERR_INTERNAL', msg: 'request failed' }])
    }
    t.match(replied(new Error('why')).lines, [{ err: { message: 'why', stack: /error-reply/ } }])
  },
)

t.test('a known error of the server is logged as one', async (t) => {
  t.match(replied(new BusyError('too many')).lines, [{ level: 50, code: 'ERR_BUSY' }])
})

t.test('text stays one line, whatever a client put into it', async (t) => {
  const { text } = replied(new BadRequestError('bad: a\r\nb\u0000\u0085c\t'))
  t.equal(text, 'bad: a b c\n')
})

t.test('text may have any characters, and the length is in bytes', async (t) => {
  const { text, header } = replied(new BadRequestError('größe'))
  t.equal(text, 'größe\n')
  t.equal(header('content-length'), 8)
})

t.test('after the header only a cut can tell', async (t) => {
  const { exchange, response, connection } = exchangeWith()
  response.writeHead(200)
  replyError(exchange, new BadRequestError('late'))
  t.equal(connection.socket.destroyed, true)
  t.equal(response.writableEnded, false)
})

t.test('when nobody is left nothing is sent', async (t) => {
  const { logger, lines } = recordingLogger()
  const { exchange, response } = exchangeWith({}, { logger })
  response.emit('close')
  replyError(exchange, new Error('too late'))
  t.equal(response.headersSent, false)
  t.match(lines, [{ level: 50, code: 'ERR_INTERNAL' }], 'a fault is a fault')
})

t.test('a client that leaves is no fault', async (t) => {
  const { logger, lines } = recordingLogger()
  const { exchange, response } = exchangeWith({}, { logger })
  replyError(exchange, new ClientGoneError())
  t.equal(response.headersSent, false)
  t.match(lines, [{ level: 30 }])
})

t.test('a page for what never became a request is complete', async (t) => {
  const page = errorPage(400, 'Bad Request', 'größe\r\n', ['allow: GET'])
  const [head = '', body] = page.split('\r\n\r\n')
  t.equal(body, 'größe\n')
  const [first, ...fields] = head.split('\r\n')
  t.equal(first, 'HTTP/1.1 400 Bad Request')
  const names = fields.map((field) => field.split(': ')[0])
  t.strictSame(names, ['server', 'date', 'connection', 'allow', 'content-type', 'content-length'])
  t.match(head, /content-length: 8$/)
  t.match(head, /connection: close/)
})
