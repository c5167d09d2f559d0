/** imageio-daemon with the configuration of npm start. */
import { randomUUID } from 'node:crypto'
import { mkdtemp, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { ControlClient } from '../core/control/control-client.js'
import { writeDaemonConfig } from '../start/daemon-config.js'
import { startDaemon } from '../start/daemon-process.js'
import { freePort } from '../start/free-port.js'
import type { Pki } from '../start/pki.js'
import type { Direction, System, Target } from './system.js'

const HOST = '127.0.0.1'
const TICKET_SECONDS = 3600

/** `root` is the checkout, `dir` is for its files. */
export async function startImageio(root: string, dir: string, pki: Pki): Promise<System> {
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

  const serveFile = async (file: string, direction: Direction): Promise<Target> => {
    const id = randomUUID()
    const { size } = await stat(file)
    const ops = [direction === 'GET' ? 'read' : 'write']
    const ticket = { uuid: id, size, ops, timeout: TICKET_SECONDS, url: `file://${file}` }
    await client.add(id, JSON.stringify(ticket))
    return {
      file,
      curl: (transport) =>
        transport === 'TLS'
          ? ['--cacert', pki.caFile, `https://${HOST}:${port}/images/${id}`]
          : ['--unix-socket', paths.dataSocket, `http://localhost/images/${id}`],
    }
  }

  return {
    name: 'imageio',
    pid: daemon.pid,
    serve: (files, direction) => Promise.all(files.map((file) => serveFile(file, direction))),
    stop: () => daemon.stop(),
  }
}
