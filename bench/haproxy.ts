/** HAProxy as a reverse proxy with docs/proxy.md's settings. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { freePort } from '../start/free-port.js'
import { anyPathAt, type Front } from './front.js'
import type { Imageio } from './imageio.js'
import { startServer } from './listening.js'
import type { Place } from './place.js'

const HOST = '127.0.0.1'

export async function startHaproxy(place: Place, daemon: Imageio): Promise<Front> {
  const { dir, pki, atEnd } = place
  const own = join(dir, 'haproxy')
  const port = await freePort(HOST, 0)
  await mkdir(own)
  const certAndKey = join(own, 'server.pem')
  const parts = [await readFile(pki.certFile), await readFile(pki.keyFile)]
  await writeFile(certAndKey, Buffer.concat(parts), { mode: 0o600 })
  const file = join(own, 'haproxy.cfg')
  await writeFile(file, configure({ certAndKey, caFile: pki.caFile, port, daemon }))
  // In the foreground, one process with a thread for each CPU.
  const command = { program: 'haproxy', args: ['-db', '-q', '-f', file] }
  const server = await startServer(command, { port, host: HOST })
  atEnd(() => server.stop())
  return { name: 'HAProxy', pid: server.pid, publish: anyPathAt(`https://${HOST}:${port}`) }
}

interface Settings {
  readonly certAndKey: string
  readonly caFile: string
  readonly port: number
  readonly daemon: Imageio
}

function configure({ certAndKey, caFile, port, daemon }: Settings): string {
  return `global
  tune.bufsize 65536

defaults
  mode http
  timeout connect 10s
  timeout client 60s
  timeout server 3600s
  timeout http-request 60s
  retries 0

frontend images
  bind ${HOST}:${port} ssl crt ${certAndKey}
  default_backend daemon

backend daemon
  server daemon ${daemon.address} ssl verify required verifyhost localhost ca-file ${caFile}
`
}
