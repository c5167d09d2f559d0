/**
 * Names of files in a storage domain. A volume's is its image id and nothing else; what is not yet or
 * no longer a volume begins with a dot, as no id does.
 */
import { randomBytes } from 'node:crypto'
import type { Id } from '../model.js'

const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/
const UNFINISHED = /^\.(?<id>.+)\.[0-9a-f]{16}\.(?:new|old)$/

export function isId(text: string): boolean {
  return ID.test(text)
}

/** Ids were checked where they came in; a file name is not made from one that was not. */
export function volumeName(imageId: Id): string {
  if (!isId(imageId)) throw new TypeError('an image id is no file name')
  return imageId
}

/** Of a volume that is being made or removed; never twice the same. */
export function unfinishedName(imageId: Id, kind: 'new' | 'old'): string {
  return `.${volumeName(imageId)}.${randomBytes(8).toString('hex')}.${kind}`
}

/** The image id in an unfinishedName(). */
export function unfinishedId(name: string): Id | undefined {
  const id = UNFINISHED.exec(name)?.groups?.['id']
  return id !== undefined && isId(id) ? id : undefined
}
