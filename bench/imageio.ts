/** imageio-daemon with the configuration of npm start, and what it serves. */
import { randomUUID } from 'node:crypto'
import { mkdtemp, stat, writeFile } from 'node:fs/promises'
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
  /** Host and port of TLS. */
  readonly address: string
  /** A ticket for what `url` names. The answer is its path. */
  readonly install: (url: string, size: number, direction: Direction) => Promise<string>
  /** The same, and how curl gets there. */
  readonly offer: (url: string, size: number, direction: Direction) => Promise<Offer>
}

/** Arguments of curl that reach the image, or what is below it. */
export type Offer = (transport: Transport, below?: string) => readonly string[]

/** `more` goes into its configuration. */
export function startImageio(place: Place, more = ''): Promise<Imageio> {
  return startProgram(place, 'imageio-daemon', more)
}

/** `more` goes into its configuration. */
export async function startProgram(
  { root, dir, pki, atEnd }: Place,
  program: 'imageio-daemon' | 'imageio-proxy',
  more = '',
): Promise<Imageio> {
  const runDir = await mkdtemp(join(dir, `${program}-`))
  const port = await freePort(HOST, 0)
  const address = `${HOST}:${port}`
  const paths = await writeDaemonConfig(runDir, { pki, host: HOST, port, isVerbose: false })
  await writeFile(join(paths.confDir, 'conf.d', 'zzzz-bench.conf'), more)
  const client = new ControlClient({ address: { socketPath: paths.controlSocket } })
  const server = await startDaemon({
    program: join(root, 'bin', program),
    confDir: paths.confDir,
    client,
    signal: new AbortController().signal,
  })
  atEnd(() => server.stop())
  const install: Imageio['install'] = async (url, size, direction) => {
    const id = randomUUID()
    const ops = [direction === 'GET' ? 'read' : 'write']
    await client.add(id, JSON.stringify({ uuid: id, size, ops, timeout: TICKET_SECONDS, url }))
    return `/images/${id}`
  }
  const offer: Imageio['offer'] = async (url, size, direction) => {
    const path = await install(url, size, direction)
    return (transport, below = '') =>
      transport === 'TLS'
        ? ['--cacert', pki.caFile, `https://${address}${path}${below}`]
        : ['--unix-socket', paths.dataSocket, `http://localhost${path}${below}`]
  }
  return { pid: server.pid, address, install, offer }
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
    behindCpuSeconds: () => exports.cpuSeconds(),
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
