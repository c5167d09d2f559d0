/** imageio-daemon with the configuration of npm start, and what it serves. */
import { randomUUID } from 'node:crypto'
import { mkdtemp, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { ControlClient } from '../core/control/control-client.js'
import { writeDaemonConfig } from '../start/daemon-config.js'
import { startDaemon } from '../start/daemon-process.js'
import { freePort } from '../start/free-port.js'
import { cpuSeconds } from './cpu.js'
import { curlTransfer } from './curl.js'
import type { NbdExports } from './nbd-exports.js'
import type { Place } from './place.js'
import type { Direction, System, Target, Transport } from './system.js'

const HOST = '127.0.0.1'
const TICKET_SECONDS = 3600

export interface Imageio {
  readonly pid: number
  /** A ticket for what `url` names. */
  readonly offer: (url: string, size: number, direction: Direction) => Promise<Offer>
}

/** Arguments of curl that reach the image, or what is below it. */
export type Offer = (transport: Transport, below?: string) => readonly string[]

export async function startImageio({ root, dir, pki, atEnd }: Place): Promise<Imageio> {
  const runDir = await mkdtemp(join(dir, 'imageio-'))
  const port = await freePort(HOST, 0)
  const paths = await writeDaemonConfig(runDir, { pki, host: HOST, port, isVerbose: false })
  const client = new ControlClient({ address: { socketPath: paths.controlSocket } })
  const daemon = await startDaemon({
    program: join(root, 'bin', 'imageio-daemon'),
    confDir: paths.confDir,
    client,
    signal: new AbortController().signal,
  })
  atEnd(() => daemon.stop())
  return {
    pid: daemon.pid,
    offer: async (url, size, direction) => {
      const id = randomUUID()
      const ops = [direction === 'GET' ? 'read' : 'write']
      const ticket = { uuid: id, size, ops, timeout: TICKET_SECONDS, url }
      await client.add(id, JSON.stringify(ticket))
      return (transport, below = '') =>
        transport === 'TLS'
          ? ['--cacert', pki.caFile, `https://${HOST}:${port}/images/${id}${below}`]
          : ['--unix-socket', paths.dataSocket, `http://localhost/images/${id}${below}`]
    },
  }
}

/** The daemon on the files themselves. */
export function imageioFiles(imageio: Imageio, name: string): System {
  return {
    name,
    volume: 'imageio',
    cpuSeconds: () => cpuSeconds(imageio.pid),
    serve: (files, direction) =>
      Promise.all(files.map((file) => target(imageio, file, `file://${file}`, direction))),
    release: () => Promise.resolve(),
  }
}

/** The daemon on exports of the files. */
export function imageioNbd(imageio: Imageio, name: string, exports: NbdExports): System {
  return {
    name,
    volume: 'export',
    cpuSeconds: () => cpuSeconds(imageio.pid),
    exportCpuSeconds: () => exports.cpuSeconds(),
    serve: (files, direction) =>
      Promise.all(
        files.map(async (file) =>
          target(imageio, file, (await exports.open(file, { direction })).url, direction),
        ),
      ),
    release: () => exports.close(),
  }
}

async function target(
  imageio: Imageio,
  file: string,
  url: string,
  direction: Direction,
): Promise<Target> {
  const { size } = await stat(file)
  const offer = await imageio.offer(url, size, direction)
  return { file, command: (transfer) => curlTransfer(transfer, offer(transfer.transport)) }
}
