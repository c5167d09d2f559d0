/** A disk as clients ask for it, and which combinations there are not (transfer-api.md, 6.1). */
import { Type, type Static } from 'typebox'
import { FaultError } from '../../fault.js'
import type { NewDisk } from '../../model.js'
import {
  Id,
  ID_PATTERN,
  numberOf,
  OptionalBoolean,
  OptionalName,
  OptionalSize,
  OptionalText,
  Reference,
  Size,
  truthOf,
} from '../schemas.js'

export const NewDiskSchema = Type.Object(
  {
    id: Type.Optional(Id),
    image_id: Type.Optional(Type.String({ pattern: ID_PATTERN, description: 'Else made up' })),
    alias: OptionalName('The name; wins over `name`'),
    name: OptionalName('The id, when there is none'),
    description: OptionalText,
    format: Type.Enum(['raw', 'cow'], { description: '`cow` is qcow2' }),
    provisioned_size: Size('Bytes the guest sees'),
    initial_size: OptionalSize('Bytes allocated at first; at least the size of the data'),
    sparse: OptionalBoolean('Default true'),
    backup: Type.Optional(Type.Enum(['none', 'incremental'])),
    content_type: Type.Optional(
      Type.String({ pattern: '^[a-z][a-z0-9_]{0,63}$', description: 'Default `data`' }),
    ),
    shareable: OptionalBoolean('Stored'),
    propagate_errors: OptionalBoolean('Stored'),
    wipe_after_delete: OptionalBoolean('Stored'),
    storage_domains: Type.Optional(
      Type.Object({
        storage_domain: Type.Optional(
          Type.Array(Reference, {
            description: 'The first counts, by id or name; none is needed if there is only one',
          }),
        ),
      }),
    ),
    lun_storage: Type.Optional(Type.Object({}, { description: 'Refused' })),
    external_disk: Type.Optional(Type.String({ description: 'Refused' })),
  },
  { xml: { name: 'disk' } },
)

export function newDiskOf(body: Static<typeof NewDiskSchema>): NewDisk {
  if (body.lun_storage !== undefined || body.external_disk !== undefined) {
    throw new FaultError(
      400,
      'Invalid value',
      'Disks are images here; leave lun_storage and external_disk out',
    )
  }
  const { format, initial_size: initialSize } = body
  const provisionedSize = numberOf('provisioned_size', body.provisioned_size)
  if (provisionedSize === 0) {
    throw new FaultError(400, 'Invalid value', 'provisioned_size must be more than 0')
  }
  const backup = body.backup ?? 'none'
  const sparse = truthOf(body.sparse, true)
  if (format === 'raw' && backup === 'incremental') {
    throw new FaultError(
      409,
      'Operation Failed',
      'Incremental backup needs format cow; use that, or backup none',
    )
  }
  if (format === 'cow' && !sparse && backup !== 'incremental') {
    throw new FaultError(
      409,
      'Operation Failed',
      'A disk of format cow is sparse; leave sparse out, or use format raw',
    )
  }
  return {
    id: body.id,
    imageId: body.image_id,
    name: body.alias ?? body.name,
    description: body.description ?? '',
    format,
    provisionedSize,
    initialSize: initialSize === undefined ? undefined : numberOf('initial_size', initialSize),
    sparse,
    backup,
    contentType: body.content_type ?? 'data',
    shareable: truthOf(body.shareable, false),
    propagateErrors: truthOf(body.propagate_errors, false),
    wipeAfterDelete: truthOf(body.wipe_after_delete, false),
    storageDomain: storageDomainOf(body.storage_domains?.storage_domain?.[0]),
  }
}

function storageDomainOf(reference: Reference | undefined): NewDisk['storageDomain'] {
  const { id, name } = reference ?? {}
  if (id !== undefined) return { id }
  return name === undefined ? undefined : { name }
}
