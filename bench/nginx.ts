/**
 * nginx as a file server: GET by direct I/O, since images do not belong into the page cache, and
 * PUT by its DAV module, which writes a temporary file through the page cache and renames it.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../start/free-port.js'
import type { Pki } from '../start/pki.js'
import { cpuSeconds } from './cpu.js'
import { curlTransfer } from './curl.js'
import { startServer } from './listening.js'
import type { Place } from './place.js'
import type { System, Transport } from './system.js'

const HOST = '127.0.0.1'

/** Serves the files of the store. */
export async function startNginx({ dir, store, pki, atEnd }: Place): Promise<System> {
  const own = join(dir, 'nginx')
  const socket = join(own, 'data.sock')
  const port = await freePort(HOST, 0)
  await mkdir(own)
  await mkdir(join(store, 'nginx-body'))
  await writeFile(join(own, 'nginx.conf'), configure({ own, store, socket, port, pki }))
  const args = ['-p', own, '-c', join(own, 'nginx.conf'), '-e', 'stderr']
  const server = await startServer({ program: 'nginx', args }, { port, host: HOST })
  atEnd(() => server.stop())
  const where = (file: string, transport: Transport): readonly string[] => {
    const path = file.slice(store.length)
    return transport === 'TLS'
      ? ['--cacert', pki.caFile, `https://${HOST}:${port}${path}`]
      : ['--unix-socket', socket, `http://localhost${path}`]
  }
  return {
    name: 'nginx',
    volume: 'nginx',
    cpuSeconds: () => cpuSeconds(server.pid),
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
  readonly own: string
  readonly store: string
  readonly socket: string
  readonly port: number
  readonly pki: Pki
}

function configure({ own, store, socket, port, pki }: Places): string {
  const temporary = ['proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `  ${name}_temp_path ${own}/${name};`,
  )
  return `daemon off;
# The user who measures owns the files.
user ${userInfo().username};
worker_processes auto;
pid ${own}/pid;
error_log stderr error;
events {}
http {
  access_log off;
  sendfile off;
  # Direct I/O: with the page cache nginx would copy what is there already.
  directio 512;
  output_buffers 2 1m;
  client_max_body_size 0;
  client_body_buffer_size 1m;
  client_body_temp_path ${store}/nginx-body;
${temporary.join('\n')}
  server {
    listen ${HOST}:${port} ssl;
    listen unix:${socket};
    ssl_certificate ${pki.certFile};
    ssl_certificate_key ${pki.keyFile};
    root ${store};
    location / { dav_methods PUT; }
  }
}
`
}
