/** A port nobody listens on. Another program might take it before we do; then the start fails. */
import { randomInt } from 'node:crypto'
import { createServer, type AddressInfo } from 'node:net'
import { StartError } from './start-error.js'

/** Below what Linux gives to whoever asks for any port, which it may have given away again by then. */
const QUIET_PORTS = [20_000, 32_768] as const
const TRIES = 20

/** Port 0 is any; another one is only checked. Throws StartError. */
export async function freePort(host: string, port: number): Promise<number> {
  const given = await tryPort(host, port)
  if (port !== 0) return given
  for (let tries = 0; tries < TRIES; tries++) {
    const found = await tryPort(host, randomInt(...QUIET_PORTS)).catch(() => 0)
    if (found !== 0) return found
  }
  return given
}

async function tryPort(host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.on('error', (cause: NodeJS.ErrnoException) => {
      const message = `cannot listen on ${host} port ${port}: ${reasonOf(cause, port)}`
      reject(new StartError(message, { cause }))
    })
    server.listen({ host, port, exclusive: true }, () => {
      const { port: found } = server.address() as AddressInfo
      server.close(() => resolve(found))
    })
  })
}

/** With what to do about it. */
function reasonOf({ code, message }: NodeJS.ErrnoException, port: number): string {
  const instead = port === 0 ? '' : '; choose another with --port, or leave it out for a free one'
  if (code === 'EADDRINUSE') return `it is in use${instead}`
  if (code === 'EACCES') return `permission denied${instead}`
  if (code === 'EADDRNOTAVAIL')
    return 'this machine has no such address; --host needs one of its own'
  if (code === 'ENOTFOUND') return 'no such host; --host needs a name or an address of this machine'
  if (code === 'EAI_AGAIN') return 'the name cannot be looked up; --host may be an address'
  return message
}
