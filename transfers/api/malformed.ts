/** Answers what Node's parser refuses, which never becomes a request, in the API's form. */
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { maxHeaderSize, STATUS_CODES } from '../../core/http/node-http.js'
import { FaultError } from '../fault.js'
import { CONTENT_TYPES, mediaFor } from './media.js'
import { METHODS } from './methods.js'
import { writeFault } from './written-fault.js'

interface ParserError extends Error {
  readonly code?: string
  /** What the parser was at, from the beginning of a request if that came in one piece. */
  readonly rawPacket?: unknown
}

/** Of who speaks, but no good HTTP. */
const PARSER = /^(HPE_|ERR_HTTP_REQUEST_TIMEOUT$)/
/** To take the answer. */
const PATIENCE_MS = 2000

export function answerMalformed(error: ParserError, socket: Socket): void {
  const { code = '', rawPacket } = error
  // Also a handshake that failed or never came: nothing can be said there, and waiting for that never ends.
  if (!PARSER.test(code) || !socket.writable) {
    socket.destroy()
    return
  }
  const head = Buffer.isBuffer(rawPacket) ? rawPacket.toString('latin1', 0, maxHeaderSize) : ''
  answer(socket, faultOf(code, head), /\r\naccept:([^\r\n]*)/i.exec(head)?.[1])
}

/** CONNECT has no path; this is no proxy. */
export function refuseConnect({ headers }: IncomingMessage, socket: Socket): void {
  answer(socket, new FaultError(405, 'Operation Failed', NO_METHOD), headers.accept)
}

const NO_METHOD = `There is no such method; use one of ${METHODS.join(', ')}`

/** Everything is in its place, so what is wrong can only be the method. */
const WELL_FORMED_LINE = /^[\w!#$%&'*+.^`|~-]+ \S+ HTTP\/1\.[01]\r\n/

function faultOf(code: string, head: string): FaultError {
  const refuse = (status: number, detail: string): FaultError =>
    new FaultError(status, 'Operation Failed', detail)
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return refuse(408, 'The request came too slowly; send it again')
  }
  if (code === 'HPE_HEADER_OVERFLOW') {
    // A line that long cannot have ended within its first packet.
    return !head.includes('\n') && /^[A-Z]+ /.test(head)
      ? refuse(414, `The path and the query together have at most ${maxHeaderSize} bytes`)
      : refuse(431, `Request line and header fields together have at most ${maxHeaderSize} bytes`)
  }
  if (/^[^\r\n]* HTTP\/[2-9]/.test(head))
    return refuse(505, 'HTTP/1.1 and 1.0 are served here, no other')
  if (code === 'HPE_INVALID_METHOD' && WELL_FORMED_LINE.test(head)) return refuse(405, NO_METHOD)
  return refuse(400, 'The request is not well-formed HTTP/1.1; this is an error of the client')
}

function answer(socket: Socket, fault: FaultError, accept: string | undefined): void {
  const media = mediaFor(accept) ?? 'xml'
  const { statusCode } = fault
  const body = writeFault(fault, media)
  socket.write(
    [
      `HTTP/1.1 ${statusCode} ${STATUS_CODES[statusCode] ?? ''}`,
      `Date: ${new Date().toUTCString()}`,
      'Connection: close',
      ...(statusCode === 405 ? [`Allow: ${METHODS.join(', ')}`] : []),
      `Content-Type: ${CONTENT_TYPES[media]}`,
      `Content-Length: ${Buffer.byteLength(body)}`,
      '',
      body,
    ].join('\r\n'),
  )
  socket.destroySoon()
  const timer = setTimeout(() => socket.destroy(), PATIENCE_MS)
  socket.once('close', () => clearTimeout(timer))
}
