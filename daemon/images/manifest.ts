/** The list of block digests: one JSON object a line, the last with the checksum over all. */
import type { BlockRun } from '../operations/checksum.js'
import type { ByteSink } from '../operations/operation.js'

export const MANIFEST_TYPE = 'application/x-ndjson'

/** Lines are sent together up to here, or once a client has waited for so long. */
const PIECE_SIZE = 16 * 1024
const MAX_DELAY_MS = 1000

export class ManifestWriter {
  readonly #sink: ByteSink
  #piece = ''
  #sentAt = performance.now()

  constructor(sink: ByteSink) {
    this.#sink = sink
  }

  /** Resolves when the client has room for more. */
  async add({ offset, size, count, digest, zero }: BlockRun): Promise<void> {
    const rest = `"size":${size},"digest":"${digest.toString('hex')}","zero":${zero}}\n`
    for (let index = 0; index < count; index++) {
      this.#piece += `{"offset":${offset + index * size},${rest}`
      if (this.#piece.length >= PIECE_SIZE) await this.#send()
    }
    if (performance.now() - this.#sentAt >= MAX_DELAY_MS) await this.#send()
  }

  async finish(summary: object): Promise<void> {
    this.#piece += `${JSON.stringify(summary)}\n`
    await this.#send()
  }

  async #send(): Promise<void> {
    const piece = Buffer.from(this.#piece)
    this.#piece = ''
    await this.#sink.write(piece)
    this.#sentAt = performance.now()
  }
}
