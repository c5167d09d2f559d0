/** nginx as a reverse proxy with docs/proxy.md's settings, and connections that are kept. */
import { join } from 'node:path'
import { freePort } from '../start/free-port.js'
import { anyPathAt, type Front } from './front.js'
import type { Imageio } from './imageio.js'
import { startNginxProcess } from './nginx-process.js'
import type { Place } from './place.js'

const HOST = '127.0.0.1'

export async function startNginxFront(place: Place, daemon: Imageio): Promise<Front> {
  const own = join(place.dir, 'nginx-front')
  const port = await freePort(HOST, 0)
  const http = configure(place, daemon, { own, port })
  const server = await startNginxProcess({ own, host: HOST, port, http })
  place.atEnd(() => server.stop())
  return { name: 'nginx', pid: server.pid, publish: anyPathAt(`https://${HOST}:${port}`) }
}

interface Listening {
  readonly own: string
  readonly port: number
}

function configure({ pki }: Place, daemon: Imageio, { own, port }: Listening): string {
  return `  client_body_temp_path ${own}/client_body;
  client_body_buffer_size 256k;
  upstream daemon {
    server ${daemon.address};
    keepalive 8;
  }
  server {
    listen ${HOST}:${port} ssl;
    ssl_certificate ${pki.certFile};
    ssl_certificate_key ${pki.keyFile};
    location / {
      proxy_pass https://daemon;
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate ${pki.caFile};
      proxy_ssl_name localhost;
      proxy_ssl_server_name on;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Connection "";
      proxy_request_buffering off;
      proxy_buffering off;
      proxy_buffer_size 256k;
      proxy_buffers 4 256k;
      proxy_next_upstream off;
    }
  }
`
}
