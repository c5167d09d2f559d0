/** Drives one transfer, one step after the other, never two at a time. */
import type { Id } from '../model.js'
import { readOwned } from './change.js'
import { LeaseLostError, type Context, type Next } from './context.js'
import type { Memory } from './memory.js'
import { isFinal } from './phases.js'
import { step } from './step.js'

export class Driver {
  readonly #context: Context
  readonly #id: Id
  readonly #memory: Memory
  /** It is finished, or somebody else's: no step follows. */
  readonly #onEnd: () => void
  #running: Promise<void> | undefined
  #isWoken = false
  #isStopped = false
  #endTimer: () => void = () => undefined
  #version = -1

  constructor(context: Context, id: Id, memory: Memory, onEnd: () => void) {
    this.#context = context
    this.#id = id
    this.#memory = memory
    this.#onEnd = onEnd
  }

  /** The last version of the transfer that a step was based on. */
  get version(): number {
    return this.#version
  }

  /** The next step is due now. */
  wake(): void {
    this.#endTimer()
    this.#isWoken = true
    if (this.#isStopped || this.#running !== undefined) return
    this.#running = this.#run().finally(() => {
      this.#running = undefined
      // Woken between the last look and here.
      if (this.#isWoken && !this.#isStopped) this.wake()
    })
  }

  /** Resolves when no step runs any more. */
  async stop(): Promise<void> {
    this.#isStopped = true
    this.#endTimer()
    await this.#running
  }

  async #run(): Promise<void> {
    let next: Next = 'again'
    while (!this.#isStopped && (next === 'again' || this.#isWoken)) {
      this.#isWoken = false
      next = await this.#step()
    }
    if (this.#isStopped || next === 'idle') return
    const { clock, timers } = this.#context
    const ms = next === 'paused' ? timers.pauseLogMs : timers.pollMs
    this.#endTimer = clock.setTimer(ms, () => this.wake())
  }

  async #step(): Promise<Next> {
    const { logger } = this.#context
    try {
      const { transfer, disk } = await readOwned(this.#context, this.#id)
      this.#version = transfer.version
      if (isFinal(transfer.phase)) return this.#end()
      return await step(this.#context, transfer, disk, this.#memory)
    } catch (error) {
      if (error instanceof LeaseLostError) {
        logger.warn({ transfer: this.#id, err: error }, 'not driven here any more')
        return this.#end()
      }
      // What is cut off by the end of the service goes on in its next process.
      const level = this.#isStopped ? 'info' : 'error'
      logger[level]({ transfer: this.#id, err: error }, 'a step failed and is tried again')
      return 'later'
    }
  }

  #end(): Next {
    this.#isStopped = true
    this.#onEnd()
    return 'idle'
  }
}
