/**
 * nginx as a file server: GET by direct I/O, since images do not belong into the page cache, and
 * PUT by its DAV module, which writes a temporary file through the page cache and renames it.
 */
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { freePort } from '../start/free-port.js'
import type { Pki } from '../start/pki.js'
import { cpuSeconds } from './cpu.js'
import { curlTransfer } from './curl.js'
import { startNginxProcess } from './nginx-process.js'
import type { Place } from './place.js'
import type { System, Transport } from './system.js'

const HOST = '127.0.0.1'

export interface NginxFiles {
  readonly pid: number
  /** Host and port of TLS. */
  readonly address: string
  readonly socket: string
}

/** Serves the files of the store, by their paths below it. */
export async function startNginxFiles({ dir, store, pki, atEnd }: Place): Promise<NginxFiles> {
  const own = join(dir, 'nginx')
  const socket = join(own, 'data.sock')
  const port = await freePort(HOST, 0)
  const body = join(store, 'nginx-body')
  await mkdir(body)
  const http = configure({ store, body, socket, port, pki })
  const server = await startNginxProcess({ own, host: HOST, port, http })
  atEnd(async () => {
    await server.stop()
    await Promise.all([own, body].map((path) => rm(path, { recursive: true })))
  })
  return { pid: server.pid, address: `${HOST}:${port}`, socket }
}

export async function startNginx(place: Place): Promise<System> {
  const { store, pki } = place
  const { pid, address, socket } = await startNginxFiles(place)
  const where = (file: string, transport: Transport): readonly string[] => {
    const path = file.slice(store.length)
    return transport === 'TLS'
      ? ['--cacert', pki.caFile, `https://${address}${path}`]
      : ['--unix-socket', socket, `http://localhost${path}`]
  }
  return {
    name: 'nginx',
    volume: 'nginx',
    cpuSeconds: () => cpuSeconds(pid),
    serve: (files) =>
      Promise.resolve(
        files.map((file) => ({
          file,
          command: (transfer) => curlTransfer(transfer, where(file, transfer.transport)),
        })),
      ),
    release: () => Promise.resolve(),
  }
}

interface Places {
  readonly store: string
  /** For bodies on their way. */
  readonly body: string
  readonly socket: string
  readonly port: number
  readonly pki: Pki
}

function configure({ store, body, socket, port, pki }: Places): string {
  return `  sendfile off;
  # Direct I/O: with the page cache nginx would copy what is there already.
  directio 512;
  output_buffers 2 1m;
  client_body_buffer_size 1m;
  client_body_temp_path ${body};
  keepalive_requests 1000000000;
  server {
    listen ${HOST}:${port} ssl;
    listen unix:${socket};
    ssl_certificate ${pki.certFile};
    ssl_certificate_key ${pki.keyFile};
    root ${store};
    location / { dav_methods PUT; }
  }
`
}
