/**
 * Where an image has its tables. What is in two of them at once changes one when qemu writes the other:
 * a guest that writes to its disk would write tables, or lose what it wrote.
 */
import { ImageRefused } from './image-file.js'

export interface Region {
  /** In messages: 'the L1 table'. */
  readonly what: string
  readonly offset: bigint
  readonly size: bigint
}

/** Throws ImageRefused when two of them share a byte. */
export function checkDisjoint(regions: readonly Region[]): void {
  const found = regions.filter(({ size }) => size > 0n)
  found.sort((a, b) => (a.offset < b.offset ? -1 : a.offset > b.offset ? 1 : 0))
  let last: Region | undefined
  for (const region of found) {
    if (last !== undefined && region.offset < last.offset + last.size) {
      throw new ImageRefused(`${last.what} and ${region.what} overlap`)
    }
    last = region
  }
}
