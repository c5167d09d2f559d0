/** A server that passes requests on to the daemon: what it costs, and the daemon behind it. */
import { stat } from 'node:fs/promises'
import { cpuSeconds } from './cpu.js'
import { curlTransfer } from './curl.js'
import type { Imageio } from './imageio.js'
import { peakMiB, restartPeak } from './memory.js'
import type { Pki } from '../start/pki.js'
import type { Direction, System } from './system.js'

export interface Front {
  readonly name: string
  readonly pid: number
  /** The URL by which it reaches what the daemon has at a path of its own. */
  readonly publish: (path: string, size: number, direction: Direction) => Promise<string>
}

/** The images are files of the daemon, the clients speak to the front. */
export function inFront(front: Front, daemon: Imageio, { caFile }: Pki): System {
  return {
    name: front.name,
    volume: 'imageio',
    cpuSeconds: () => cpuSeconds(front.pid),
    behindCpuSeconds: () => cpuSeconds(daemon.pid),
    peakMiB: () => peakMiB(front.pid),
    serve: (files, direction) => {
      restartPeak(front.pid)
      return Promise.all(
        files.map(async (file) => {
          const { size } = await stat(file)
          const path = await daemon.install(`file://${file}`, size, direction)
          const where = ['--cacert', caFile, await front.publish(path, size, direction)]
          return { file, command: (transfer) => curlTransfer(transfer, where) }
        }),
      )
    },
    release: () => Promise.resolve(),
  }
}

/** Of a front that knows nothing of images. */
export function anyPathAt(origin: string): Front['publish'] {
  return (path) => Promise.resolve(`${origin}${path}`)
}
