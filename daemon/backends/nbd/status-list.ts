/** Extents of one metadata context as a server sent them: lengths and values of 32 or 64 bits. */
import { broken } from './messages.js'

/** Bytes of the payload before the extents, and of each. */
const COMPACT = { head: 4, extent: 8 } as const
const EXTENDED = { head: 8, extent: 16 } as const

/** About a million extents: as many as qemu sends at most. */
const MAX_EXTENTS = 1024 * 1024

export class StatusList {
  readonly context: number
  readonly count: number
  readonly #extents: Buffer
  readonly #isExtended: boolean

  /** From the payload of a BLOCK_STATUS or, when it is extended, BLOCK_STATUS_EXT chunk. */
  constructor(payload: Buffer, isExtended: boolean) {
    const { head, extent } = isExtended ? EXTENDED : COMPACT
    this.context = payload.readUInt32BE(0)
    this.count = (payload.length - head) / extent
    this.#extents = payload.subarray(head)
    this.#isExtended = isExtended
    const told = isExtended ? payload.readUInt32BE(4) : 0
    if (told !== 0 && told !== this.count) throw broken('another number of extents than it tells')
  }

  /** Throws NbdProtocolError when no payload has this length. */
  static checkLength(length: number, isExtended: boolean): void {
    const { head, extent } = isExtended ? EXTENDED : COMPACT
    if (length <= head || (length - head) % extent !== 0) {
      throw broken('extents with a wrong length')
    }
    if ((length - head) / extent > MAX_EXTENTS) throw broken('too many extents in one reply')
  }

  /** Bytes; a safe integer, or throws NbdProtocolError. */
  length(index: number): number {
    if (!this.#isExtended) return this.#extents.readUInt32BE(index * COMPACT.extent)
    const length = this.#extents.readBigUInt64BE(index * EXTENDED.extent)
    if (length > Number.MAX_SAFE_INTEGER) throw broken('an extent larger than any image')
    return Number(length)
  }

  /** The lowest 32 bits of the value, which are all that any context uses for flags. */
  flags(index: number): number {
    return this.#isExtended
      ? this.#extents.readUInt32BE(index * EXTENDED.extent + 12)
      : this.#extents.readUInt32BE(index * COMPACT.extent + 4)
  }

  isZero(index: number): boolean {
    if (this.flags(index) !== 0) return false
    return !this.#isExtended || this.#extents.readUInt32BE(index * EXTENDED.extent + 8) === 0
  }
}
