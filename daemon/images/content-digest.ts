/** Integrity on the wire (RFC 9530): bodies with their digests, in both directions. */
import {
  contentDigest,
  parseContentDigest,
  wantedDigest,
  type ExpectedDigest,
  type WireAlgorithm,
} from '../../core/http/digest-fields.js'
import { ContentDigestError } from '../../core/http/errors.js'
import type { Exchange, Headers } from '../../core/http/exchange.js'
import type { DigestAlgorithm } from '../operations/checksum.js'
import { DigestingSink, DigestingSource } from '../operations/digesting.js'
import type { ByteSink, ByteSource } from '../operations/operation.js'

const NAMES: Readonly<Record<WireAlgorithm, DigestAlgorithm>> = {
  'sha-256': 'sha256',
  'sha-512': 'sha512',
}

/** What the client says of the body it sends: before it or, when it announces that, behind it. */
export class BodyCheck {
  readonly #exchange: Exchange
  readonly #expected: readonly ExpectedDigest[]
  readonly #isAnnounced: boolean
  readonly #algorithms: readonly WireAlgorithm[]
  #source: DigestingSource | undefined

  /** Throws BadRequestError. */
  constructor(exchange: Exchange) {
    this.#exchange = exchange
    this.#expected = parseContentDigest(exchange.header('content-digest'))
    const announced = exchange.header('trailer')?.toLowerCase().split(',') ?? []
    this.#isAnnounced = announced.some((name) => name.trim() === 'content-digest')
    // Which algorithm it will be is not known before.
    this.#algorithms = this.#isAnnounced
      ? (Object.keys(NAMES) as WireAlgorithm[])
      : this.#expected.map(({ algorithm }) => algorithm)
  }

  /** The body itself when nothing was said. */
  of(body: ByteSource): ByteSource {
    if (this.#algorithms.length === 0) return body
    const names = this.#algorithms.map((algorithm) => NAMES[algorithm])
    this.#source = new DigestingSource(body, names)
    return this.#source
  }

  /** Once, when the body was read. Rejects with ContentDigestError or BadRequestError. */
  async verify(body: ByteSource): Promise<void> {
    // A body of known length was not read to the end of the message, where fields may follow.
    if (this.#isAnnounced) await body.read(Buffer.alloc(1))
    const found = this.#source?.finish() ?? []
    const trailer = this.#isAnnounced ? this.#exchange.trailer('content-digest') : undefined
    for (const { algorithm, digest } of [...this.#expected, ...parseContentDigest(trailer)]) {
      const own = found[this.#algorithms.indexOf(algorithm)]
      if (own?.equals(digest) !== true) throw new ContentDigestError(algorithm)
    }
  }
}

/**
 * A response body whose digest the client wants: in the header when the body is one piece, known
 * before anything is sent, else in the trailer section if the client takes one. A wish that cannot
 * be fulfilled is none.
 */
export class DigestedBody implements ByteSink {
  readonly #exchange: Exchange
  readonly #headers: Headers
  readonly #sink: ByteSink
  readonly #algorithm: WireAlgorithm
  readonly #size: number
  #trailing: DigestingSink | undefined
  #isStarted = false

  /** Undefined when no digest is wanted. `headers` are those that `sink` sends with the first byte. */
  static of(exchange: Exchange, headers: Headers, sink: ByteSink, size: number) {
    const algorithm = wantedDigest(exchange.header('want-content-digest'))
    if (algorithm === undefined) return undefined
    return new DigestedBody(exchange, headers, sink, { algorithm, size })
  }

  private constructor(
    exchange: Exchange,
    headers: Headers,
    sink: ByteSink,
    { algorithm, size }: { algorithm: WireAlgorithm; size: number },
  ) {
    this.#exchange = exchange
    this.#headers = headers
    this.#sink = sink
    this.#algorithm = algorithm
    this.#size = size
    if (size === 0) this.#putFirst(this.#digesting(NOWHERE))
  }

  async write(chunk: Buffer): Promise<void> {
    if (!this.#isStarted) await this.#start(chunk)
    await (this.#trailing ?? this.#sink).write(chunk)
  }

  /** What follows the body. */
  trailers(): Record<string, string> | undefined {
    return this.#trailing === undefined ? undefined : this.#field(this.#trailing)
  }

  async #start(first: Buffer): Promise<void> {
    this.#isStarted = true
    if (first.length === this.#size) {
      const digesting = this.#digesting(NOWHERE)
      await digesting.write(first)
      this.#putFirst(digesting)
      return
    }
    if (!this.#exchange.takesTrailers) return
    this.#trailing = this.#digesting(this.#sink)
    this.#headers['trailer'] = 'content-digest'
    // HTTP/1.1 has trailers behind chunks only; their end tells a complete body, too.
    if (!this.#exchange.isH2) delete this.#headers['content-length']
  }

  #putFirst(digesting: DigestingSink): void {
    Object.assign(this.#headers, this.#field(digesting))
  }

  #digesting(sink: ByteSink): DigestingSink {
    return new DigestingSink(sink, NAMES[this.#algorithm])
  }

  #field(digesting: DigestingSink): Record<string, string> {
    return { 'content-digest': contentDigest(this.#algorithm, digesting.finish()) }
  }
}

const NOWHERE: ByteSink = { write: () => Promise.resolve() }
