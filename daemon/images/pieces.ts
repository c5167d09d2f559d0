/**
 * Text that comes bit by bit, in pieces worth sending: large ones, unless the next bit takes its time.
 * Then what there is goes out, so that a client can begin with it.
 */
export interface Piece {
  readonly text: string
  readonly isLast: boolean
}

export interface PieceOptions {
  /** Characters of a piece, about. */
  readonly size: number
  /** How long a piece may wait for more of it. */
  readonly lingerMs: number
}

/** Rejects with what `texts` throws, without the text before it that was not taken yet. */
export async function* inPieces(
  texts: AsyncIterable<string>,
  options: PieceOptions,
): AsyncGenerator<Piece, undefined> {
  const collector = new Collector(options)
  const collected = collector.collect(texts)
  try {
    for (;;) {
      const piece = await collector.take()
      yield piece
      if (piece.isLast) return undefined
    }
  } finally {
    collector.stop()
    await collected
  }
}

class Collector {
  readonly #options: PieceOptions
  #text = ''
  #isLate = false
  #isDone = false
  #isStopped = false
  #error: Error | undefined
  #timer: NodeJS.Timeout | undefined
  #wakeTaker: () => void = () => undefined
  #wakeCollector: () => void = () => undefined

  constructor(options: PieceOptions) {
    this.#options = options
  }

  /** Settles when nothing is asked of `texts` any more; never rejects. */
  async collect(texts: AsyncIterable<string>): Promise<void> {
    try {
      for await (const text of texts) {
        if (this.#text === '') this.#startTimer()
        this.#text += text
        if (this.#isFull) {
          this.#wakeTaker()
          await this.#room()
        }
        if (this.#isStopped) return
      }
    } catch (error) {
      this.#error = error instanceof Error ? error : new Error('no text', { cause: error })
    } finally {
      this.#isDone = true
      clearTimeout(this.#timer)
      this.#wakeTaker()
    }
  }

  async take(): Promise<Piece> {
    while (!this.#isDone && !this.#isFull && !this.#isLate) {
      await new Promise<void>((resolve) => (this.#wakeTaker = resolve))
    }
    if (this.#error !== undefined) throw this.#error
    const piece = { text: this.#text, isLast: this.#isDone }
    this.#text = ''
    this.#isLate = false
    clearTimeout(this.#timer)
    this.#wakeCollector()
    return piece
  }

  stop(): void {
    this.#isStopped = true
    this.#wakeCollector()
  }

  get #isFull(): boolean {
    return this.#text.length >= this.#options.size
  }

  /** Waits until the piece was taken: never more than one is held. */
  async #room(): Promise<void> {
    while (this.#isFull && !this.#isStopped) {
      await new Promise<void>((resolve) => (this.#wakeCollector = resolve))
    }
  }

  #startTimer(): void {
    this.#timer = setTimeout(() => {
      this.#isLate = true
      this.#wakeTaker()
    }, this.#options.lingerMs)
  }
}
