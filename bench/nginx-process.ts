/** nginx with what each of its configurations here has in common. */
import { mkdir, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import type { Command } from './command.js'
import { startServer, type Server } from './listening.js'

interface NginxOptions {
  /** Its directory, not there yet. */
  readonly own: string
  readonly host: string
  /** Where it is expected to listen. */
  readonly port: number
  /** The block `http`, but what is here already. */
  readonly http: string
}

export async function startNginxProcess({ own, host, port, http }: NginxOptions): Promise<Server> {
  await mkdir(own)
  const file = join(own, 'nginx.conf')
  await writeFile(file, configure(own, http))
  const command: Command = { program: 'nginx', args: ['-p', own, '-c', file, '-e', 'stderr'] }
  return startServer(command, { port, host })
}

function configure(own: string, http: string): string {
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
  client_max_body_size 0;
${temporary.join('\n')}
${http}}
`
}
