/** A look at all tables of a qcow2 image, of which there may be many: one at a time, and not for ever. */
import { setImmediate } from 'node:timers/promises'
import { ImageRefused, type ImageFile } from './image-file.js'

/** There was no time for the rest. */
export class OutOfTime extends Error {
  override readonly name = 'OutOfTime'
}

/** Some MiB of memory; without more, tables that snapshots share are read again. */
const MAX_KNOWN = 65_536

export class TableLook {
  readonly #file: ImageFile
  readonly #deadline: number
  /** Offsets of L2 tables with nothing behind the end of the file. */
  readonly #known = new Set<bigint>()

  constructor(file: ImageFile, timeoutMs: number) {
    this.#file = file
    this.#deadline = Date.now() + timeoutMs
  }

  /** `owner`: whom it belongs to. Throws ImageRefused where the file ends before, OutOfTime. */
  async read(offset: bigint, size: number, owner: string): Promise<Buffer> {
    this.checkInside(offset + BigInt(size), owner)
    await this.#turn()
    return this.#file.read(offset, size, `a table of ${owner}`)
  }

  /** Throws ImageRefused where the file ends before `end`. */
  checkInside(end: bigint, owner: string): void {
    if (end <= this.#file.size) return
    throw new ImageRefused(`the end of the file is missing, with data of ${owner}`)
  }

  /** Throws OutOfTime. */
  async isKnown(offset: bigint): Promise<boolean> {
    await this.#turn()
    return this.#known.has(offset)
  }

  setKnown(offset: bigint): void {
    if (this.#known.size < MAX_KNOWN) this.#known.add(offset)
  }

  async #turn(): Promise<void> {
    if (Date.now() > this.#deadline) throw new OutOfTime()
    await setImmediate() // others are served meanwhile, also when all is in the cache
  }
}
