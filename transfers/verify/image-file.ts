/** An image by its descriptor, read in pieces that were looked at before: nothing in it is trusted. */
import type { FileHandle } from 'node:fs/promises'

/** What is wrong with an image, in words for administrators; every other error is ours. */
export class ImageRefused extends Error {
  override readonly name = 'ImageRefused'
}

export class ImageFile {
  readonly handle: FileHandle
  /** Of the file; a sparse one may be larger than any safe integer. */
  readonly size: bigint

  constructor(handle: FileHandle, size: bigint) {
    this.handle = handle
    this.size = size
  }

  /** Exactly these bytes. Throws ImageRefused when the file ends before; `what` names them. */
  async read(offset: bigint, size: number, what: string): Promise<Buffer> {
    this.checkInside(offset, BigInt(size), what)
    const bytes = await this.readUpTo(offset, size)
    if (bytes.length < size) throw new ImageRefused(`the file ends inside ${what}`)
    return bytes
  }

  /** Fewer where the file ends. */
  async readUpTo(offset: bigint, size: number): Promise<Buffer> {
    const bytes = Buffer.alloc(size)
    let filled = 0
    while (filled < size) {
      const position = offset + BigInt(filled)
      const { bytesRead } = await this.handle.read(bytes, filled, size - filled, position)
      if (bytesRead === 0) break
      filled += bytesRead
    }
    return bytes.subarray(0, filled)
  }

  checkInside(offset: bigint, size: bigint, what: string): void {
    if (offset + size > this.size) throw new ImageRefused(`the file ends before ${what} does`)
  }
}
