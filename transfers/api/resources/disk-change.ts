/** What a client wants changed of a disk, and what cannot be (transfer-api.md, 6.2). */
import { Type, type Static } from 'typebox'
import { FaultError } from '../../fault.js'
import type { Disk, DiskChange } from '../../model.js'
import {
  Id,
  numberOf,
  OptionalBoolean,
  OptionalNewName,
  OptionalSize,
  OptionalText,
  truthOf,
} from '../schemas.js'

/** Clients may send the whole disk: what is as it is may be there. */
const FIXED = 'Cannot be changed'

export const DiskChangeSchema = Type.Object(
  {
    id: Type.Optional(Id),
    alias: OptionalNewName('The name; of `alias` and `name` the one that is new counts'),
    name: OptionalNewName('May not be empty'),
    description: OptionalText,
    provisioned_size: OptionalSize('Bytes the guest sees; not fewer than before'),
    backup: Type.Optional(Type.Enum(['none', 'incremental'])),
    shareable: OptionalBoolean('Stored'),
    propagate_errors: OptionalBoolean('Stored'),
    wipe_after_delete: OptionalBoolean('Stored'),
    format: Type.Optional(Type.String({ description: FIXED })),
    sparse: OptionalBoolean(FIXED),
    image_id: Type.Optional(Type.String({ description: FIXED })),
    content_type: Type.Optional(Type.String({ description: FIXED })),
  },
  { xml: { name: 'disk' } },
)

type Body = Static<typeof DiskChangeSchema>

export function diskChangeOf(body: Body, disk: Disk): DiskChange {
  const fixed: readonly [string, string | undefined, string][] = [
    ['id', body.id, disk.id],
    ['format', body.format, disk.format],
    ['sparse', body.sparse && String(truthOf(body.sparse, true)), String(disk.sparse)],
    ['image_id', body.image_id, disk.imageId],
    ['content_type', body.content_type, disk.contentType],
  ]
  for (const [name, wanted, is] of fixed) {
    if (wanted !== undefined && wanted !== is) {
      throw new FaultError(
        400,
        'Invalid value',
        `${name} of a disk cannot be changed; leave it out`,
      )
    }
  }
  // Of a whole disk one of both has the new name.
  const names = [body.alias, body.name].filter((each) => each !== undefined)
  const name = names.find((each) => each !== disk.name)
  const { description, backup, provisioned_size: size } = body
  return {
    ...(name !== undefined && { name }),
    ...(description !== undefined && { description }),
    ...(size !== undefined && { provisionedSize: numberOf('provisioned_size', size) }),
    ...(backup !== undefined && { backup }),
    ...truth('shareable', body.shareable),
    ...truth('propagateErrors', body.propagate_errors),
    ...truth('wipeAfterDelete', body.wipe_after_delete),
  }
}

type Flag = 'shareable' | 'propagateErrors' | 'wipeAfterDelete'

function truth(flag: Flag, text: string | undefined): DiskChange {
  return text === undefined ? {} : { [flag]: truthOf(text, false) }
}
