/** Digests of what an operation receives or sends, made on other threads while it passes. */
import { Digest, type DigestAlgorithm } from '../../native/index.js'
import { outcomeOf, valueOf, type ByteSink, type ByteSource } from './operation.js'

export class DigestingSource implements ByteSource {
  readonly #source: ByteSource
  readonly #digests: readonly Digest[]

  constructor(source: ByteSource, algorithms: readonly DigestAlgorithm[]) {
    this.#source = source
    this.#digests = algorithms.map((algorithm) => new Digest(algorithm))
  }

  async read(target: Buffer): Promise<number> {
    const size = await this.#source.read(target)
    if (size === 0) return 0
    // Before the caller has the memory back. What it got before is being written meanwhile.
    for (const digest of this.#digests) await digest.update(target.subarray(0, size))
    return size
  }

  /** The digests of all that was read, in the order of the algorithms. */
  finish(): Buffer[] {
    return this.#digests.map((digest) => digest.finish())
  }
}

export class DigestingSink implements ByteSink {
  readonly #sink: ByteSink
  readonly #digest: Digest

  constructor(sink: ByteSink, algorithm: DigestAlgorithm) {
    this.#sink = sink
    this.#digest = new Digest(algorithm)
  }

  async write(chunk: Buffer): Promise<void> {
    const hashing = outcomeOf(this.#digest.update(chunk))
    const sent = await outcomeOf(this.#sink.write(chunk))
    valueOf(await hashing)
    valueOf(sent)
  }

  /** The digest of all that was written. */
  finish(): Buffer {
    return this.#digest.finish()
  }
}
