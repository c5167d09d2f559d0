/**
 * What of an upload counts as transferred. The kernel takes more than it has sent, so the last bytes
 * count only when the daemon says that all is well; those before have reached its host.
 */
import { MiB } from '../core/units.js'

/** More than the kernel's buffers of both sides hold by default (tcp_wmem, tcp_rmem). */
const IN_FLIGHT = 16 * MiB

export class SentBytes {
  readonly #onProgress: (offset: number, size: number) => void
  #counted: number
  #sent: number

  constructor(offset: number, onProgress: (offset: number, size: number) => void) {
    this.#onProgress = onProgress
    this.#counted = offset
    this.#sent = offset
  }

  /** So many were given to the kernel. */
  add(size: number): void {
    this.#sent += size
    this.#count(this.#sent - IN_FLIGHT)
  }

  /** All have arrived. */
  confirm(): void {
    this.#count(this.#sent)
  }

  #count(end: number): void {
    if (end <= this.#counted) return
    this.#onProgress(this.#counted, end - this.#counted)
    this.#counted = end
  }
}
