/**
 * qemu-nbd on Unix sockets: an export, and a process, for each image. Who is compared gets exports of
 * its own: what a request costs qemu-nbd depends on the requests before, since the C library's
 * allocator learns from their sizes whether to give memory back.
 */
import { mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import { cpuSeconds } from './cpu.js'
import { allowsDirect } from './images.js'
import { startServer, type Server } from './listening.js'
import type { Direction } from './system.js'

interface OpenOptions {
  /** Several may read the same file. */
  readonly direction: Direction
  readonly format?: 'raw' | 'qcow2'
}

export interface NbdExport {
  /** As tickets name it. */
  readonly url: string
  /** As clients of libnbd name it. */
  readonly uri: string
}

export class NbdExports {
  readonly #dir: string
  readonly #servers: Server[] = []

  /** `dir` is for sockets. */
  constructor(dir: string) {
    this.#dir = dir
  }

  async open(file: string, { direction, format = 'raw' }: OpenOptions): Promise<NbdExport> {
    const socket = join(await mkdtemp(join(this.#dir, 'nbd-')), 'socket')
    const cache = (await allowsDirect(file)) ? 'none' : 'writeback'
    const options = ['--persistent', '--shared=8', '-k', socket, '-f', format, `--cache=${cache}`]
    const args = [...options, ...(direction === 'GET' ? ['--read-only'] : []), file]
    this.#servers.push(await startServer({ program: 'qemu-nbd', args }, { path: socket }))
    return { url: `nbd:unix:${socket}`, uri: `nbd+unix:///?socket=${socket}` }
  }

  cpuSeconds(): number {
    return this.#servers.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0)
  }

  async close(): Promise<void> {
    for (const server of this.#servers.splice(0)) await server.stop()
  }
}
