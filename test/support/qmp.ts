/** A client of qemu's monitor: one JSON object a line, answers in order, events in between. */
import { createInterface, type Interface } from 'node:readline'
import net, { type Socket } from 'node:net'
import { within } from './wait.js'

export type Arguments = Readonly<Record<string, unknown>>

interface Message {
  readonly return?: unknown
  readonly error?: { readonly class: string; readonly desc: string }
  readonly event?: string
  readonly data?: unknown
}

export interface Event {
  readonly name: string
  readonly data: unknown
}

type Waiter = (message: Message) => void

const TIMEOUT_MS = 20_000

export class Qmp {
  readonly #socket: Socket
  readonly #lines: Interface
  readonly #waiters: Waiter[] = []
  readonly #events: Event[] = []
  #wake: () => void = () => undefined
  #isEnded = false

  private constructor(socket: Socket) {
    this.#socket = socket
    this.#lines = createInterface({ input: socket, crlfDelay: Infinity })
    this.#lines.on('line', (line) => this.#take(JSON.parse(line) as Message))
    // Whoever waits is told by #end(). readline passes on what the socket says.
    for (const emitter of [this.#lines, socket]) emitter.on('error', () => undefined)
    socket.on('close', () => this.#end())
  }

  static async open(path: string): Promise<Qmp> {
    const socket = net.connect({ path })
    await within(
      'connection to the monitor',
      TIMEOUT_MS,
      new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject)),
    )
    const qmp = new Qmp(socket)
    await qmp.execute('qmp_capabilities')
    return qmp
  }

  /** Rejects with what qemu says when it refuses, or when it ends without an answer. */
  async execute(command: string, args: Arguments = {}): Promise<unknown> {
    if (this.#isEnded) throw new Error(`${command}: qemu has ended`)
    const answer = new Promise<Message>((resolve) => this.#waiters.push(resolve))
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`)
    const message = await within(command, TIMEOUT_MS, answer)
    if (message.error !== undefined) throw new Error(`${command}: ${message.error.desc}`)
    return message.return
  }

  /** All of them at one moment, or none. */
  async transaction(actions: readonly { type: string; data: Arguments }[]): Promise<void> {
    await this.execute('transaction', { actions })
  }

  /** The first such event not waited for before. */
  async event(name: string): Promise<Event> {
    return within(`event ${name}`, TIMEOUT_MS, this.#event(name))
  }

  close(): void {
    this.#lines.close()
    this.#socket.destroy()
  }

  async #event(name: string): Promise<Event> {
    for (;;) {
      const at = this.#events.findIndex((event) => event.name === name)
      if (at >= 0) return this.#events.splice(at, 1)[0]!
      if (this.#isEnded) throw new Error('qemu has ended')
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }

  #take(message: Message): void {
    if (message.event !== undefined) {
      this.#events.push({ name: message.event, data: message.data })
      this.#wake()
    } else if ('return' in message || message.error !== undefined) {
      this.#waiters.shift()?.(message)
    }
  }

  #end(): void {
    this.#isEnded = true
    const error = { class: 'GenericError', desc: 'qemu has ended' }
    for (const waiter of this.#waiters.splice(0)) waiter({ error })
    this.#wake()
  }
}
