/**
 * A daemon on the proxy's own host is reached through its Unix socket, which costs no TLS. It is the same
 * daemon only if it knows the same ticket: another one may listen on that name here when the address
 * leads through a forwarded port or into a container.
 */
import type { Agent } from 'node:http'
import { lookup } from 'node:dns/promises'
import { networkInterfaces } from 'node:os'
import type { DaemonRequest } from './daemon-request.js'
import { DialedSocket } from './dialed-socket.js'
import { DaemonAnswerError, DaemonGoneError, DaemonTimeoutError } from './errors.js'
import { readAll } from './pump.js'

interface Way {
  readonly agent: Agent
  readonly socketPath: string
}

/** Bytes of an OPTIONS answer. */
const MAX_OPTIONS = 64 * 1024

export interface Look {
  readonly host: string
  /** Begins an OPTIONS request over TCP, or over the socket. */
  readonly ask: (way?: Way) => DaemonRequest
  /** For the socket. */
  readonly agent: Agent
  /** For the name to be resolved. */
  readonly lookupMs: number
  /** Ends it with its reason. */
  readonly signal: AbortSignal
}

/** The daemon tells of a socket that cannot be used. */
export class LocalSocketError extends Error {}

/**
 * Its name, abstract ones with a leading NUL; undefined when there is none. Rejects with
 * LocalSocketError; and with a daemon error when there is no daemon to ask, or it is silent: a request
 * would have to wait just as long to find out.
 */
export async function findLocalSocket(look: Look): Promise<string | undefined> {
  const { host, ask, agent } = look
  if (!(await isThisHost(host, look))) return undefined
  const told = await options(ask()).catch((error: unknown) => {
    // What is odd about an answer here need not be so for the request itself.
    if (error instanceof DaemonGoneError || error instanceof DaemonAnswerError) return undefined
    throw error
  })
  const socketPath = told?.isSameHost === true ? told.members.get('unix_socket') : undefined
  if (typeof socketPath !== 'string' || socketPath === '') return undefined
  const status = await options(ask({ agent, socketPath })).then(
    (answer) => answer.status,
    (cause: unknown) => {
      look.signal.throwIfAborted()
      throw new LocalSocketError('it does not answer', { cause })
    },
  )
  if (status === 200) return socketPath
  throw new LocalSocketError(`it answers ${status} to what the daemon takes over TCP`)
}

/**
 * Whether connections to it stay on this machine, as far as one can tell before connecting. Node cannot
 * stop a lookup; nobody waits for it any more.
 */
async function isThisHost(host: string, { lookupMs, signal }: Look): Promise<boolean> {
  signal.throwIfAborted()
  const giveUp = Promise.withResolvers<never>()
  const late = setTimeout(() => giveUp.reject(new DaemonTimeoutError('no address')), lookupMs)
  const onAbort = (): void => giveUp.reject(signal.reason as Error)
  signal.addEventListener('abort', onAbort)
  const found = lookup(host, { all: true }).catch(() => [])
  const addresses = await Promise.race([found, giveUp.promise]).finally(() => {
    clearTimeout(late)
    signal.removeEventListener('abort', onAbort)
  })
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
    const { socket } = head
    const isSameHost =
      socket instanceof DialedSocket
        ? socket.isSameHost
        : socket.localAddress === socket.remoteAddress
    const members = parseMembers(await readAll(body, MAX_OPTIONS))
    return { status, members, isSameHost }
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
