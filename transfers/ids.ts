/** Ids of hosts and storage domains whose section gives none. */
import { createHash } from 'node:crypto'
import type { Id } from './model.js'

/** A UUID, because some clients take nothing else; the same for the same name, wherever it is made. */
export function idOf(kind: 'host' | 'storage domain', name: string): Id {
  const digest = createHash('sha256').update(`${kind}\0${name}`).digest()
  digest[6] = ((digest[6] ?? 0) & 0x0f) | 0x80 // version 8: made in a way of its own
  digest[8] = ((digest[8] ?? 0) & 0x3f) | 0x80
  const hex = digest.toString('hex')
  const parts = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20)]
  return [...parts, hex.slice(20, 32)].join('-')
}
