/**
 * Connections beyond the limit. A few are taken, for as long as it needs to tell their clients so: a
 * connection that is only closed looks like a fault of the network, and is tried again at once.
 */
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { Admission } from '../../core/http/admission.js'
import type { Logger } from '../../core/log.js'
import type { Clock } from '../clock.js'
import { BusyError, RETRY_SECONDS } from './busy.js'
import { writeFault } from './written-fault.js'
import { CONTENT_TYPES, mediaFor } from './media.js'

/** So many more than the limit, and of these from one address. */
const SPARE = { maxConnections: 64, maxConnectionsPerAddress: 16 }
/** Between two lines of the log: who refuses thousands does not write thousands. */
const LOG_EVERY_MS = 10_000

export class Crowd {
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #spare = new Admission(SPARE)
  readonly #peers = new Set<string>()
  #loggedAt = -Infinity

  constructor(clock: Clock, logger: Logger) {
    this.#clock = clock
    this.#logger = logger
  }

  /** Of a connection that has no place. */
  add(socket: Socket): void {
    const { remoteAddress: client = '' } = socket
    if (this.#clock.now() - this.#loggedAt >= LOG_EVERY_MS) {
      this.#loggedAt = this.#clock.now()
      this.#logger.warn(
        { service: 'api', client },
        'too many connections, the new ones are refused',
      )
    }
    const leave = this.#spare.enter(client)
    if (leave === undefined) {
      socket.destroy()
      return
    }
    const peer = peerOf(socket)
    this.#peers.add(peer)
    socket.once('close', () => {
      this.#peers.delete(peer)
      leave()
    })
  }

  /** What the others are served by. */
  refusing(handler: RequestListener): RequestListener {
    return (request, response) => {
      if (this.#peers.has(peerOf(request.socket))) refuse(request, response)
      else handler(request, response)
    }
  }
}

/** The same for a connection and what TLS has made of it. */
function peerOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`
}

function refuse({ headers }: IncomingMessage, response: ServerResponse): void {
  const media = mediaFor(headers.accept) ?? 'xml'
  const fault = new BusyError('Too many connections; use fewer at a time, or try again later')
  response.writeHead(fault.statusCode, {
    'content-type': CONTENT_TYPES[media],
    'retry-after': String(RETRY_SECONDS),
    connection: 'close',
  })
  response.end(writeFault(fault, media))
}
