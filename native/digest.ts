/** Digests by the OpenSSL inside Node, on libuv's pool. */
import { addon, type DigestAlgorithm, type DigestHandle } from './addon.js'

/** All there are, sorted. `blake2b` has 32 bytes, which node:crypto cannot make. */
export const DIGEST_ALGORITHMS: readonly DigestAlgorithm[] = Object.freeze(addon.digestAlgorithms)

/** A digest that is fed piece by piece, by the OpenSSL inside Node. One call at a time. */
export class Digest {
  readonly #handle: DigestHandle

  constructor(algorithm: DigestAlgorithm) {
    this.#handle = addon.createDigest(algorithm)
  }

  /** On libuv's pool; the buffer belongs to the call until its promise is settled. */
  update(buffer: Buffer): Promise<void> {
    return addon.updateDigest(this.#handle, buffer)
  }

  /** On this thread, for a few bytes. */
  updateNow(buffer: Buffer): void {
    addon.updateDigestNow(this.#handle, buffer)
  }

  /**
   * Adds what pread(2) gets of [offset, offset + size), on libuv's pool; resolves with the number of
   * bytes, fewer only when the file ends. Reads as many bytes at a time as the buffer has, also at
   * the end, as direct I/O wants it. A digest that was rejected is spoiled.
   */
  read(fd: number, buffer: Buffer, offset: number, size: number): Promise<number> {
    return addon.readDigest(this.#handle, fd, buffer, offset, size)
  }

  /** The digest. Nothing can be added afterwards. */
  finish(): Buffer {
    return addon.finishDigest(this.#handle)
  }
}

/** The digest of one buffer, on libuv's pool. */
export async function hashBlock(algorithm: DigestAlgorithm, block: Buffer): Promise<Buffer> {
  const digest = new Digest(algorithm)
  await digest.update(block)
  return digest.finish()
}
