/** Answers what Node's parser refuses, which never becomes a request, in the API's form. */
import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import { writeXml } from './xml/writer.js'
import { CONTENT_TYPES } from './media.js'

const STATUSES: Readonly<Record<string, number>> = {
  HPE_HEADER_OVERFLOW: 431,
  ERR_HTTP_REQUEST_TIMEOUT: 408,
}

/** Of who speaks, but no good HTTP. */
const PARSER = /^(HPE_|ERR_HTTP_REQUEST_TIMEOUT$)/
/** To take the answer. */
const PATIENCE_MS = 2000

export function answerMalformed(error: Error & { readonly code?: string }, socket: Socket): void {
  const { code = '' } = error
  // Also a handshake that failed or never came: nothing can be said there, and waiting for that never ends.
  if (!PARSER.test(code) || !socket.writable) {
    socket.destroy()
    return
  }
  const status = STATUSES[code] ?? 400
  const reason = STATUS_CODES[status] ?? ''
  const body = writeXml('fault', { detail: reason, reason: 'Operation Failed' })
  socket.write(
    [
      `HTTP/1.1 ${status} ${reason}`,
      'Connection: close',
      `Content-Type: ${CONTENT_TYPES.xml}`,
      `Content-Length: ${body.length}`,
      '',
      body,
    ].join('\r\n'),
  )
  socket.destroySoon()
  const timer = setTimeout(() => socket.destroy(), PATIENCE_MS)
  socket.once('close', () => clearTimeout(timer))
}
