/** What was so a while ago, in bounded memory: the least recently used is forgotten first. */
export class Recent {
  readonly #maxMarks: number
  readonly #idleMs: number
  readonly #now: () => number
  readonly #ends = new Map<string, number>()

  constructor(maxMarks: number, idleMs: number, now: () => number) {
    this.#maxMarks = maxMarks
    this.#idleMs = idleMs
    this.#now = now
  }

  /** Use keeps it. */
  has(mark: string): boolean {
    const end = this.#ends.get(mark)
    if (end === undefined) return false
    if (end > this.#now()) this.add(mark)
    else this.#ends.delete(mark)
    return this.#ends.has(mark)
  }

  add(mark: string): void {
    this.#ends.delete(mark)
    this.#ends.set(mark, this.#now() + this.#idleMs)
    const [oldest] = this.#ends.keys()
    if (this.#ends.size > this.#maxMarks && oldest !== undefined) this.#ends.delete(oldest)
  }
}
