/**
 * A daemon on the proxy's own host is reached through its Unix socket, which costs no TLS. It is the same
 * daemon only if it knows the same ticket: another one may listen on that name here when the address
 * leads through a forwarded port or into a container.
 */
import type { Agent } from 'node:http'
import { lookup } from 'node:dns/promises'
import { networkInterfaces } from 'node:os'
import type { DaemonRequest } from './daemon-request.js'
import { readAll } from './pump.js'

interface Way {
  readonly agent: Agent
  readonly socketPath: string
}

/** Bytes of an OPTIONS answer. */
const MAX_OPTIONS = 64 * 1024

/**
 * Its name, abstract ones with a leading NUL; undefined when there is none. `ask` begins an OPTIONS
 * request over TCP, or over the socket. Rejects when the socket is told of and cannot be used.
 */
export async function findLocalSocket(
  host: string,
  ask: (way?: Way) => DaemonRequest,
  agent: Agent,
): Promise<string | undefined> {
  if (!(await isThisHost(host))) return undefined
  const told = await options(ask()).catch(() => undefined) // the request itself will tell
  const socketPath = told?.isSameHost === true ? told.members.get('unix_socket') : undefined
  if (typeof socketPath !== 'string' || socketPath === '') return undefined
  const { status } = await options(ask({ agent, socketPath }))
  if (status === 200) return socketPath
  throw new Error(`it answers ${status} to what the daemon takes over TCP`)
}

/** Whether connections to it stay on this machine, as far as one can tell before connecting. */
async function isThisHost(host: string): Promise<boolean> {
  const addresses = await lookup(host, { all: true }).catch(() => [])
  const own = new Set(
    Object.values(networkInterfaces())
      .flatMap((list) => list ?? [])
      .map(addressOf),
  )
  return addresses.some(({ address }) => own.has(address) || /^(127\.|::1$)/.test(address))
}

function addressOf({ address }: { readonly address: string }): string {
  return address
}

async function options(request: DaemonRequest) {
  request.end()
  const { status, head, body } = await request.answer
  try {
    const { localAddress, remoteAddress } = head.socket
    const members = parseMembers(await readAll(body, MAX_OPTIONS))
    return { status, members, isSameHost: localAddress === remoteAddress }
  } finally {
    body.release()
  }
}

/** Empty when it is no JSON object: an old daemon's answer. */
export function parseMembers(text: Buffer): Map<string, unknown> {
  try {
    const value: unknown = JSON.parse(text.toString())
    return new Map(typeof value === 'object' && value !== null ? Object.entries(value) : [])
  } catch {
    return new Map()
  }
}
