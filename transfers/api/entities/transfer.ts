/** An image transfer as the API shows it. */
import { Type } from 'typebox'
import type { TransferAction, TransferView } from '../../model.js'
import type { Links } from '../links.js'
import { Actions, Href, Id, LinkedObject, Size } from '../schemas.js'
import type { WireObject } from '../wire.js'

export const ACTIONS: readonly TransferAction[] = [
  'cancel',
  'extend',
  'finalize',
  'pause',
  'resume',
]

export const PHASES = [
  'initializing',
  'transferring',
  'paused_user',
  'paused_system',
  'resuming',
  'cancelled_user',
  'cancelled_system',
  'finalizing_success',
  'finalizing_cleanup',
  'finalizing_failure',
  'finished_cleanup',
  'finished_success',
  'finished_failure',
] as const

export const TransferSchema = Type.Object(
  {
    href: Href,
    id: Id,
    actions: Actions,
    active: Type.String({ description: '`true` while data moves' }),
    description: Type.Optional(
      Type.String({
        description:
          'Why it failed or was paused by the service, why the image was refused, or who cancelled it; ' +
          'in words for people, which may change',
      }),
    ),
    direction: Type.Enum(['upload', 'download']),
    format: Type.Enum(['raw', 'cow'], { description: 'What the bytes on the wire are' }),
    inactivity_timeout: Size('Seconds; 0 is none'),
    phase: Type.Enum([...PHASES]),
    proxy_url: Type.Optional(
      Type.String({
        description:
          'For clients that cannot reach the host. While there is a ticket, unless the proxy has refused it',
      }),
    ),
    shallow: Type.String(),
    timeout_policy: Type.Enum(['legacy', 'pause', 'cancel']),
    transfer_url: Type.Optional(
      Type.String({ description: 'Where the data goes. A secret. While there is a ticket' }),
    ),
    transferred: Size('Bytes so far, as last looked up'),
    disk: LinkedObject,
    host: Type.Optional(LinkedObject),
    image: Type.Object({ id: Id }),
  },
  { xml: { name: 'image_transfer' } },
)

/** What to show whole instead of by reference. */
export interface Followed {
  readonly disk?: WireObject | undefined
  readonly host?: WireObject | undefined
}

export function transferOf(
  transfer: TransferView,
  links: Links,
  { disk, host }: Followed = {},
): WireObject {
  const { id, diskId, hostId } = transfer
  return {
    ...links.reference('imagetransfers', id),
    actions: links.actions('imagetransfers', id, ACTIONS),
    active: String(transfer.isActive),
    description: reasonOf(transfer),
    direction: transfer.direction,
    format: transfer.format,
    inactivity_timeout: String(transfer.inactivityTimeout),
    phase: transfer.phase,
    proxy_url: transfer.proxyUrl,
    shallow: String(transfer.shallow),
    timeout_policy: transfer.timeoutPolicy,
    transfer_url: transfer.transferUrl,
    transferred: String(transfer.transferred),
    disk: disk ?? links.reference('disks', diskId),
    // ovirt-img follows it as soon as data may move, and fails without.
    host: host ?? (hostId === undefined ? undefined : links.reference('hosts', hostId)),
    image: { id: diskId },
  }
}

/**
 * What a client is told of why it came to this. An engine says no more than the phase; `description` is
 * an element that its clients know and print, where they print one. What was got over is left out.
 */
export function reasonOf({ phase, message }: TransferView): string | undefined {
  return phase === 'finished_success' ? undefined : message
}
