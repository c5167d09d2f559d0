/**
 * nginx as a file server: GET by direct I/O, since images do not belong into the page cache, and
 * PUT by its DAV module, which writes a temporary file through the page cache and renames it.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../start/free-port.js'
import type { Pki } from '../start/pki.js'
import type { System } from './system.js'

const HOST = '127.0.0.1'
const START_TIMEOUT_MS = 10_000

/** Serves the files of `store`; `dir` is for its own. */
export async function startNginx(dir: string, store: string, pki: Pki): Promise<System> {
  const own = join(dir, 'nginx')
  const socket = join(own, 'data.sock')
  const port = await freePort(HOST, 0)
  await mkdir(own)
  await mkdir(join(store, 'nginx-body'))
  await writeFile(join(own, 'nginx.conf'), configure({ own, store, socket, port, pki }))
  const child = spawn('nginx', ['-p', own, '-c', join(own, 'nginx.conf'), '-e', 'stderr'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const ended = once(child, 'close')
  await Promise.race([untilListening(port), ended.then(fail)])
  const { pid } = child
  if (pid === undefined) return fail()
  return {
    name: 'nginx',
    pid,
    serve: (files) =>
      Promise.resolve(
        files.map((file) => {
          const path = file.slice(store.length)
          return {
            file,
            curl: (transport) =>
              transport === 'TLS'
                ? ['--cacert', pki.caFile, `https://${HOST}:${port}${path}`]
                : ['--unix-socket', socket, `http://localhost${path}`],
          }
        }),
      ),
    stop: async () => {
      child.kill('SIGTERM')
      await ended
    },
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

async function untilListening(port: number): Promise<void> {
  const giveUpAt = performance.now() + START_TIMEOUT_MS
  while (performance.now() < giveUpAt) {
    const isListening = await new Promise<boolean>((resolve) => {
      const probe = connect(port, HOST, () => resolve(true))
      probe.on('error', () => resolve(false)).on('connect', () => probe.destroy())
    })
    if (isListening) return
    await sleep(50)
  }
  fail()
}

function fail(): never {
  throw new Error('nginx does not start')
}
