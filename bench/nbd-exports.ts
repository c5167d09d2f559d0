/** qemu-nbd on Unix sockets: an export, and a process, for each image. */
import { mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import { cpuSeconds } from './cpu.js'
import { allowsDirect } from './images.js'
import { startServer, type Server } from './listening.js'

export interface NbdExport {
  readonly socket: string
  /** As tickets name it. */
  readonly url: string
  /** As clients of libnbd name it. */
  readonly uri: string
}

export class NbdExports {
  readonly #dir: string
  readonly #running = new Map<string, { served: NbdExport; server: Server }>()

  /** `dir` is for sockets. */
  constructor(dir: string) {
    this.#dir = dir
  }

  /** The export of a file: the same one for all who ask. */
  async open(file: string, format: 'raw' | 'qcow2' = 'raw'): Promise<NbdExport> {
    const known = this.#running.get(file)
    if (known !== undefined) return known.served
    const socket = join(await mkdtemp(join(this.#dir, 'nbd-')), 'socket')
    const cache = (await allowsDirect(file)) ? 'none' : 'writeback'
    const options = ['--persistent', '--shared=8', '-k', socket, '-f', format, `--cache=${cache}`]
    const command = { program: 'qemu-nbd', args: [...options, file] }
    const server = await startServer(command, { path: socket })
    const served = { socket, url: `nbd:unix:${socket}`, uri: `nbd+unix:///?socket=${socket}` }
    this.#running.set(file, { served, server })
    return served
  }

  cpuSeconds(): number {
    const servers = [...this.#running.values()].map(({ server }) => server)
    return servers.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0)
  }

  async close(): Promise<void> {
    const servers = [...this.#running.values()].map(({ server }) => server)
    this.#running.clear()
    for (const server of servers) await server.stop()
  }
}
