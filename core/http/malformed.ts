/** Answers what Node's HTTP/1 parser refuses, which never becomes a request. */
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { takeHeld } from './body.js'
import type { Connection } from './connection.js'
import { errorPage } from './error-reply.js'
import { METHODS } from './methods.js'
import { linger } from './linger.js'
import { MAX_HEAD, MAX_REQUEST_LINE } from './framing.js'

/** RFC 9110, 15.5.6. What a path takes is not known here. */
const ALLOW = `allow: ${METHODS.join(', ')}`

interface ParserError extends Error {
  readonly code?: string
  readonly rawPacket?: Buffer
}

interface Answer {
  readonly status: number
  readonly reason: string
  readonly text: string
  readonly headers?: readonly string[]
}

/** What the parser is working on: its own bookkeeping, public by use for many years. */
interface ServedSocket extends Socket {
  readonly _httpMessage?: { readonly req?: IncomingMessage; readonly headersSent: boolean } | null
}

/** `exchangeOf` finds the exchange of a request whose body is being read. */
export function answerMalformed(
  error: ParserError,
  socket: Socket,
  connection: Connection | undefined,
  exchangeOf: (request: object) => { cutBody(): void } | undefined,
): void {
  const request = (socket as ServedSocket)._httpMessage?.req
  const isLost = error.code === 'ECONNRESET' || error.code === 'EPIPE'
  const isLingering = connection?.isClosing === true && socket.writableEnded && !isLost
  // What still comes is thrown away; the parser, which has given up, fails with each piece of it.
  if (isLingering && request === undefined) return
  const isGone = isLost || !socket.writable
  if (connection === undefined || (isGone && request === undefined)) {
    socket.destroy()
    return
  }
  const isFirst = !connection.isClosing
  connection.isClosing = true
  if (request !== undefined) {
    // A request is being served, or will be: its handler learns that the body ends here, and answers.
    const exchange = exchangeOf(request)
    if (exchange === undefined) connection.broken = { request, held: heldOf(request) }
    else exchange.cutBody()
    return
  }
  if (connection.isActive || !isFirst) return
  const answer = judge(error)
  socket.write(errorPage(answer.status, answer.reason, answer.text, answer.headers))
  linger(socket, () => true)
  socket.destroySoon()
}

/** What has come of a body that is cut; undefined when all of it has. */
function heldOf(request: IncomingMessage): Buffer | undefined {
  return request.complete ? undefined : takeHeld(request)
}

/** CONNECT has no path; no listener of ours is a tunnel. Requests before it are answered first. */
export function refuseConnect({ socket }: IncomingMessage, connection: Connection): void {
  const request = (socket as ServedSocket)._httpMessage?.req
  const isFirst = !connection.isClosing
  connection.isClosing = true
  socket.resume() // the parser has let go of it, and its end must be seen
  if (request !== undefined) {
    connection.broken = { request, held: undefined }
    return
  }
  if (!isFirst) return
  socket.write(errorPage(405, 'Method Not Allowed', 'CONNECT is not allowed', [ALLOW]))
  socket.destroySoon()
}

/** Everything is in its place, so what is wrong can only be the method. */
const WELL_FORMED_LINE = /^[\w!#$%&'*+.^`|~-]+ \S+ HTTP\/1\.[01]\r\n/

function judge({ code = '', rawPacket }: ParserError): Answer {
  const head = rawPacket?.toString('latin1', 0, MAX_REQUEST_LINE) ?? ''
  const version = /HTTP\/(\d+)/.exec(head)?.[1]
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return { status: 408, reason: 'Request Timeout', text: 'the request header came too slowly' }
  }
  if (code === 'HPE_HEADER_OVERFLOW') {
    // A line that long cannot have ended within its first packet.
    if (!head.includes('\n') && /^[A-Z]+ /.test(head)) {
      const text = `the request line is longer than ${MAX_REQUEST_LINE} bytes`
      return { status: 414, reason: 'URI Too Long', text }
    }
    const text = `the request header is larger than ${MAX_HEAD} bytes`
    return { status: 431, reason: 'Request Header Fields Too Large', text }
  }
  if (version !== undefined && Number(version) >= 2) {
    const text = 'this HTTP version is not served here'
    return { status: 505, reason: 'HTTP Version Not Supported', text }
  }
  if (code === 'HPE_INVALID_METHOD' && WELL_FORMED_LINE.test(head)) {
    const text = 'unknown request method'
    return { status: 405, reason: 'Method Not Allowed', text, headers: [ALLOW] }
  }
  return { status: 400, reason: 'Bad Request', text: 'the request is not well-formed HTTP/1.1' }
}
