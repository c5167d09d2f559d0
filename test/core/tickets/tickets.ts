/** Tickets, a clock that only moves when told, and a log that keeps its lines. */
import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import type { Logger } from '../../../core/log.js'
import type { TicketDefinition } from '../../../core/tickets/definition.js'

export function definition(fields: Partial<TicketDefinition> = {}): TicketDefinition {
  return {
    id: randomUUID(),
    size: 1000,
    ops: ['read'],
    timeout: 300,
    inactivityTimeout: 60,
    url: 'file:///disk',
    transferId: 'transfer',
    filename: undefined,
    sparse: false,
    dirty: false,
    ...fields,
  }
}

export class FakeClock {
  seconds = 1000.25
  readonly read = (): number => this.seconds
}

export interface LogLine {
  readonly level: number
  readonly msg: string
  readonly [field: string]: unknown
}

export function recordingLogger(): { logger: Logger; lines: LogLine[]; text: () => string } {
  const lines: LogLine[] = []
  const write = (line: string): void => void lines.push(JSON.parse(line) as LogLine)
  return {
    logger: pino({ level: 'trace', base: null }, { write }),
    lines,
    text: () => JSON.stringify(lines),
  }
}
