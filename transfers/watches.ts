/** Who waits for changes of what. A change is looked up once, however many wait for it. */
import type { Id } from './model.js'

type Listener<T> = (value: T | undefined) => void

interface Watch<T> {
  readonly listeners: Set<Listener<T>>
  isLooking: boolean
  isDue: boolean
}

export class Watches<T> {
  readonly #look: (id: Id) => Promise<T | undefined>
  readonly #watches = new Map<Id, Watch<T>>()

  constructor(look: (id: Id) => Promise<T | undefined>) {
    this.#look = look
  }

  /** Returns how to end it. */
  add(id: Id, listener: Listener<T>): () => void {
    const watch = this.#watches.get(id) ?? {
      listeners: new Set<Listener<T>>(),
      isLooking: false,
      isDue: false,
    }
    this.#watches.set(id, watch)
    watch.listeners.add(listener)
    return () => {
      watch.listeners.delete(listener)
      if (watch.listeners.size > 0 || this.#watches.get(id) !== watch) return
      this.#watches.delete(id)
    }
  }

  changed(id: Id): void {
    const watch = this.#watches.get(id)
    if (watch === undefined) return
    watch.isDue = true
    if (!watch.isLooking) void this.#tell(id, watch)
  }

  /** In order: what was looked up later is told later. */
  async #tell(id: Id, watch: Watch<T>): Promise<void> {
    watch.isLooking = true
    try {
      while (watch.isDue) {
        watch.isDue = false
        const value = await this.#look(id)
        for (const listener of watch.listeners) listener(value)
      }
    } catch {
      // The store is out of reach; whoever waits is told of the next change.
    } finally {
      watch.isLooking = false
    }
  }
}
