/** Tickets, and a clock that only moves when told. */
import { randomUUID } from 'node:crypto'
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
    replaces: false,
    missing: [],
    dirty: false,
    maxBytesPerSecond: 0,
    ...fields,
  }
}

export class FakeClock {
  seconds = 1000.25
  readonly read = (): number => this.seconds
}
