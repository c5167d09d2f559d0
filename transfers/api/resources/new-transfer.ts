/** A transfer as clients ask for it (transfer-api.md, 7.1): whole disks and hosts, of which the id counts. */
import { Type, type Static } from 'typebox'
import { FaultError } from '../../fault.js'
import type { Id as ModelId, NewTransfer, TransferService } from '../../model.js'
import { found } from '../context.js'
import { Id, numberOf, OptionalBoolean, OptionalSize, Reference, truthOf } from '../schemas.js'

export const NewTransferSchema = Type.Object(
  {
    direction: Type.Optional(
      Type.Enum(['upload', 'download'], { description: 'Default `upload`' }),
    ),
    format: Type.Optional(
      Type.Enum(['raw', 'cow'], {
        description:
          'What the bytes on the wire are. `raw` is what the guest sees, whatever the format of ' +
          'the disk; without `format` they are those of the file.',
      }),
    ),
    inactivity_timeout: OptionalSize('Seconds; default 60, 0 is none'),
    timeout_policy: Type.Optional(
      Type.Enum(['legacy', 'pause', 'cancel'], {
        description: 'What happens then; `legacy` (default) pauses uploads and cancels downloads',
      }),
    ),
    shallow: OptionalBoolean('Without what is below; disks here have nothing below'),
    disk: Type.Optional(Reference),
    image: Type.Optional(Type.Object({ id: Id }, { description: 'The same as `disk`' })),
    snapshot: Type.Optional(Type.Object({ id: Id }, { description: 'A disk by its `image_id`' })),
    host: Type.Optional(Reference),
    backup: Type.Optional(Type.Object({}, { description: 'Refused' })),
  },
  { xml: { name: 'image_transfer' } },
)

const INACTIVITY_TIMEOUT = 60

export async function newTransferOf(
  body: Static<typeof NewTransferSchema>,
  service: TransferService,
): Promise<NewTransfer> {
  if (body.backup !== undefined) {
    throw new FaultError(400, 'Invalid value', 'Backups are not served; leave backup out')
  }
  const { disk, image, snapshot, host, inactivity_timeout: timeout } = body
  const targets = [disk, image, snapshot].filter((target) => target !== undefined)
  if (targets.length > 1) {
    throw new FaultError(
      400,
      'Invalid value',
      'A transfer is of one disk; leave two of disk, image and snapshot out',
    )
  }
  const diskId = image?.id ?? (disk && (await diskIdOf(disk, service)))
  if (diskId === undefined && snapshot === undefined) {
    throw new FaultError(400, 'Incomplete parameters', 'ImageTransfer [disk.id] required for add')
  }
  return {
    diskId,
    imageId: snapshot?.id,
    direction: body.direction ?? 'upload',
    hostId: host && hostIdOf(host, service),
    format: body.format,
    shallow: truthOf(body.shallow, false),
    inactivityTimeout:
      timeout === undefined ? INACTIVITY_TIMEOUT : numberOf('inactivity_timeout', timeout),
    timeoutPolicy: body.timeout_policy ?? 'legacy',
  }
}

async function diskIdOf(
  { id, name }: Reference,
  service: TransferService,
): Promise<ModelId | undefined> {
  if (id !== undefined || name === undefined) return id
  const disks = (await service.disks()).filter((disk) => disk.name === name)
  if (disks.length > 1) {
    throw new FaultError(400, 'Invalid value', 'Several disks have this name; use the id')
  }
  return found('disk', disks[0]).id
}

function hostIdOf({ id, name }: Reference, service: TransferService): ModelId | undefined {
  if (id !== undefined || name === undefined) return id
  return found(
    'host',
    service.hosts().find((host) => host.name === name),
  ).id
}
