/** One ticket per image: installed, kept alive, asked for progress. */
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

/** Of all images together: the daemon serves nothing else. */
export async function readProgress(client: ControlClient): Promise<Progress> {
  const tickets = parseTickets(await client.list())
  const total = (key: string): number =>
    tickets.reduce((sum, ticket) => sum + Number(ticket.get(key) ?? 0), 0)
  return {
    moved: total('moved'),
    clients: total('connections'),
    isActive: tickets.some((ticket) => ticket.get('active') === true),
  }
}
