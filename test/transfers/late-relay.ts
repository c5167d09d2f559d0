/** Stands between the service and a control socket, and delivers installations of tickets when it is told. */
import { mkdtempSync, rmSync } from 'node:fs'
import { createConnection, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { until } from '../support/wait.js'

export class LateRelay {
  readonly socketPath: string
  /** Installations are kept from now on, and not answered. */
  isHolding = false
  readonly #to: string
  readonly #held: Buffer[] = []

  private constructor(socketPath: string, to: string) {
    this.socketPath = socketPath
    this.#to = to
  }

  static async start(t: Test, to: string): Promise<LateRelay> {
    // A name of a socket is short, unlike that of the directory of a test.
    const dir = mkdtempSync(join(tmpdir(), 'imageio-relay-'))
    const relay = new LateRelay(join(dir, 'sock'), to)
    const open = new Set<Socket>()
    const server = createServer((client) => {
      open.add(client)
      client.on('error', () => undefined)
      client.once('data', (first) => relay.#take(client, first))
    })
    await new Promise<void>((resolve) => server.listen(relay.socketPath, resolve))
    t.teardown(() => {
      server.close()
      for (const client of open) client.destroy()
      rmSync(dir, { recursive: true })
    })
    return relay
  }

  /** Status lines of what the daemon answers to all that were kept. */
  async deliver(): Promise<string[]> {
    return Promise.all(this.#held.splice(0).map((request) => ask(this.#to, request)))
  }

  /** Resolves when the sender of an installation has given up. */
  async whenHeld(): Promise<void> {
    await until('an installation is kept', () => Promise.resolve(this.#held.length > 0))
  }

  #take(client: Socket, first: Buffer): void {
    if (this.isHolding && first.toString('latin1').startsWith('PUT ')) {
      const chunks = [first]
      client.on('data', (chunk: Buffer) => chunks.push(chunk))
      client.on('close', () => this.#held.push(Buffer.concat(chunks)))
      return
    }
    const daemon = createConnection(this.#to)
    daemon.on('error', () => client.destroy())
    daemon.write(first)
    client.pipe(daemon).pipe(client)
  }
}

function ask(socketPath: string, request: Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const connection = createConnection(socketPath)
    connection.on('error', reject)
    connection.once('data', (answer) => {
      connection.destroy()
      resolve(answer.toString('latin1').split('\r\n')[0] ?? '')
    })
    connection.write(request)
  })
}
