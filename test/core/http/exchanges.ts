/** Exchanges, connections and a log without a server. */
import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { pino } from 'pino'
import { Connection } from '../../../core/http/connection.js'
import { Exchange } from '../../../core/http/exchange.js'
import type { Logger } from '../../../core/log.js'

export interface LogLine {
  readonly level: number
  readonly msg: string
  readonly [field: string]: unknown
}

export function recordingLogger(): { logger: Logger; lines: LogLine[]; text: () => string } {
  const lines: LogLine[] = []
  const write = (line: string): void => void lines.push(JSON.parse(line) as LogLine)
  const logger = pino({ level: 'trace', base: null }, { write })
  return { logger, lines, text: () => JSON.stringify(lines) }
}

export function connectionWith(idleLimitMs = 60_000, socket = new Socket()): Connection {
  return new Connection(socket, '192.0.2.1', { idleLimitMs })
}

/** Of a request with these header fields; its response goes nowhere. */
export function exchangeWith(
  headers: Readonly<Record<string, string>> = {},
  { method = 'GET', url = '/', logger = recordingLogger().logger } = {},
): { exchange: Exchange; response: ServerResponse; connection: Connection } {
  const connection = connectionWith()
  const request = new IncomingMessage(connection.socket)
  Object.assign(request, { method, url, headers, complete: true, httpVersionMajor: 1 })
  const response = new ServerResponse(request)
  const watch = { inactivityMs: 60_000, minRate: 0 }
  const parts = { request, response, connection, logger, service: 'test', watch, id: 'id' }
  return { exchange: new Exchange(parts), response, connection }
}
