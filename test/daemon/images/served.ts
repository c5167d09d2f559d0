/** The images service on a real socket, over images in memory whose failures the test decides. */
import type { Test } from 'tap'
import type { TicketDefinition } from '../../../core/tickets/definition.js'
import { TicketGate } from '../../../core/tickets/gate.js'
import { TicketStore } from '../../../core/tickets/store.js'
import type { Ticket } from '../../../core/tickets/ticket.js'
import { MemoryBackend } from '../../../daemon/backends/memory.js'
import { imageRoutes } from '../../../daemon/images/routes.js'
import { BufferPool } from '../../../core/buffer-pool.js'
import { ChecksumSlots } from '../../../daemon/operations/checksum-slots.js'
import { request, type Ask, type Reply } from '../../support/http.js'
import type { LogLine } from '../../core/http/exchanges.js'
import { recordingLogger } from '../../core/http/exchanges.js'
import { serve, type Served } from '../../core/http/serving.js'
import { definition } from '../../core/tickets/tickets.js'

export interface ServedImages extends Served {
  readonly store: TicketStore
  /** The image all tickets are for. */
  readonly backend: MemoryBackend
  /** How often it was opened. */
  readonly opened: () => number
  readonly storeLines: LogLine[]
  readonly add: (fields?: Partial<TicketDefinition>) => Promise<Ticket>
  /** A request for the image of a ticket. */
  readonly ask: (ticket: Ticket, method: string, rest?: string, options?: Ask) => Promise<Reply>
}

export interface ServedOptions {
  readonly size?: number
  readonly canGrow?: boolean
  readonly localSocket?: string
}

export async function serveImages(
  t: Test,
  { size = 1000, canGrow = false, localSocket }: ServedOptions = {},
): Promise<ServedImages> {
  const { logger, lines: storeLines } = recordingLogger()
  const store = new TicketStore({ expiredGrace: 60, logger })
  t.teardown(() => store.close())
  const content = Buffer.from(Array.from({ length: size }, (_, index) => (index % 250) + 1))
  const backend = new MemoryBackend(content, { canGrow })
  let opened = 0
  const open = async (): Promise<MemoryBackend> => {
    opened++
    return backend
  }
  const buffers = new BufferPool({ bufferSize: 4096, maxBytes: 1 << 20, waitTimeoutMs: 1000 })
  const checksums = new ChecksumSlots(1)
  const services = {
    gate: new TicketGate(store),
    open,
    buffers,
    checksums,
    minBodyRate: 0,
    localSocket,
  }
  const served = await serve(t, imageRoutes(services))
  const add = async (fields: Partial<TicketDefinition> = {}): Promise<Ticket> => {
    const made = definition({ size, ops: ['write'], ...fields })
    await store.add(made, 100)
    return store.get(made.id)
  }
  const ask: ServedImages['ask'] = (ticket, method, rest = '', options = {}) =>
    request(served.target, method, `/images/${ticket.definition.id}${rest}`, options)
  return { ...served, store, backend, opened: () => opened, storeLines, add, ask }
}
