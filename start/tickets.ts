/** One ticket per image: installed at daemon and proxy, kept alive, asked for progress. */
import { randomUUID } from 'node:crypto'
import { basename, parse } from 'node:path'
import type { ControlClient } from '../core/control/control-client.js'
import { parseTickets } from '../ctl/ticket-json.js'
import type { Image } from './image.js'
import type { Source } from './sources.js'

export interface ServedImage extends Image {
  readonly ticketId: string
}

export interface Progress {
  /** Bytes, counted each time they are. */
  readonly moved: number
  readonly clients: number
  readonly isActive: boolean
}

const TIMEOUT_SECONDS = 24 * 3600
export const RENEW_MS = 3600 * 1000

export async function installTickets(
  client: ControlClient,
  sources: readonly Source[],
): Promise<ServedImage[]> {
  return Promise.all(
    sources.map(async ({ image, url }) => {
      const ticketId = randomUUID()
      const ticket = {
        uuid: ticketId,
        size: image.size,
        // Write implies read.
        ops: [image.isWritable ? 'write' : 'read'],
        timeout: TIMEOUT_SECONDS,
        url,
        transfer_id: basename(image.path),
        filename: downloadName(image),
        sparse: image.isSparse,
        dirty: image.guest?.bitmap !== undefined,
      }
      await client.add(ticketId, JSON.stringify(ticket))
      return { ...image, ticketId }
    }),
  )
}

/** The same ids, of images that the daemon at `origin` has. */
export async function installProxyTickets(
  proxy: ControlClient,
  images: readonly ServedImage[],
  origin: string,
): Promise<void> {
  await Promise.all(
    images.map(async ({ ticketId, size, isWritable, isSparse }) => {
      const ticket = {
        uuid: ticketId,
        size,
        ops: [isWritable ? 'write' : 'read'],
        timeout: TIMEOUT_SECONDS,
        url: `${origin}/images/${ticketId}`,
        sparse: isSparse,
      }
      await proxy.add(ticketId, JSON.stringify(ticket))
    }),
  )
}

/** For browsers: what a download holds. */
function downloadName({ path, guest }: Image): string {
  return guest ? `${parse(path).name}.raw` : basename(path)
}

export async function renewTickets(
  client: ControlClient,
  images: readonly ServedImage[],
): Promise<void> {
  await Promise.all(images.map(({ ticketId }) => client.extend(ticketId, TIMEOUT_SECONDS)))
}

/**
 * Of all tickets together, those of transfers too. What a ticket has moved still counts when its
 * transfer has ended and it is gone.
 */
export function progressOf(client: ControlClient): () => Promise<Progress> {
  const movedBy = new Map<unknown, number>()
  return async () => {
    const tickets = parseTickets(await client.list())
    for (const ticket of tickets) {
      const moved = Number(ticket.get('moved') ?? 0)
      movedBy.set(ticket.get('uuid'), Math.max(moved, movedBy.get(ticket.get('uuid')) ?? 0))
    }
    return {
      moved: [...movedBy.values()].reduce((sum, moved) => sum + moved, 0),
      clients: tickets.reduce((sum, ticket) => sum + Number(ticket.get('connections') ?? 0), 0),
      isActive: tickets.some((ticket) => ticket.get('active') === true),
    }
  }
}
