/** Addresses that need preparation before somebody can listen on them. */
import { chmodSync, existsSync, lstatSync, unlinkSync } from 'node:fs'
import { lookup } from 'node:dns/promises'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import type { HttpServer } from './server.js'

/** Owner and group. */
export const MODE_PRIVATE = 0o660
/** Everybody, as on TCP: the ticket is the credential. */
export const MODE_PUBLIC = 0o666

/** `::` means IPv4 as well, and on a host without IPv6 only that. */
export async function listenTcp(server: HttpServer, host: string, port: number): Promise<void> {
  try {
    await server.listen({ host: host === '' ? '0.0.0.0' : host, port })
  } catch (error) {
    if (host !== '::' || (error as NodeJS.ErrnoException).code !== 'EAFNOSUPPORT') throw error
    await server.listen({ host: '0.0.0.0', port })
  }
}

/** Loopback only. The engine's client tries one address only, so IPv4 comes first where preferred. */
export async function listenLoopback(
  server: HttpServer,
  port: number,
  preferIpv4: boolean,
): Promise<void> {
  const addresses = await lookup('localhost', { all: true, order: 'verbatim' })
  const ipv4 = addresses.find(({ family }) => family === 4)
  const host = (preferIpv4 ? ipv4 : undefined) ?? addresses[0]
  await server.listen({ host: host?.address ?? '127.0.0.1', port })
}

/**
 * Listens on a Unix socket. An abstract name has no file; a file that nobody listens on is left over
 * and replaced.
 */
export async function listenUnix(server: HttpServer, path: string, mode: number): Promise<void> {
  if (path.startsWith('\0')) {
    await server.listen({ path })
    return
  }
  requireDirectory(path)
  await removeStale(path)
  // bind(2) creates the file, and nobody else may connect before its mode is set.
  const umask = process.umask(0o777 & ~MODE_PRIVATE)
  try {
    await server.listen({ path })
  } finally {
    process.umask(umask)
  }
  chmodSync(path, mode)
}

export function removeSocket(path: string): void {
  if (path.startsWith('\0')) return
  try {
    unlinkSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

/** Without it Node's word would be EACCES, permission denied. */
function requireDirectory(path: string): void {
  const directory = dirname(path)
  if (existsSync(directory)) return
  throw new Error(`${path} cannot be made: ${directory} does not exist`)
}

async function removeStale(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return
  if (!found.isSocket()) throw new Error(`${path} exists and is no socket`)
  if (await isAlive(path)) throw new Error(`${path} is in use by another process`)
  removeSocket(path)
}

function isAlive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path })
    const settle = (alive: boolean): void => {
      socket.destroy()
      resolve(alive)
    }
    socket.once('connect', () => settle(true))
    socket.once('error', () => settle(false))
  })
}
