/**
 * Connections to one daemon that are kept between requests. Node ends an idle one that says anything: it
 * would be taken for the answer to the next request.
 */
import type http from 'node:http'
import https from 'node:https'
import type { Socket } from 'node:net'
import { Agent } from '../core/http/node-http.js'
import { hasLeft } from '../core/http/peer.js'
import type { Transport, TrustHandle } from '../native/transport.js'
import { DialedSocket } from './dialed-socket.js'
import { FrontAgent } from './front-agent.js'

/** Below the daemon's own limits, so that it is mostly the proxy who closes. */
const IDLE_MS = 15_000

/** A host that lost its power closes no connection; the kernel's probes find out. */
const PROBE_MS = 10_000

const OPTIONS: http.AgentOptions = {
  keepAlive: true,
  keepAliveMsecs: PROBE_MS,
  scheduling: 'lifo',
  // As many as clients usually open; more are opened when needed, and not kept.
  maxFreeSockets: 8,
  timeout: IDLE_MS, // acts on idle sockets only
}

export function createAgent(tls: https.AgentOptions | undefined): http.Agent {
  if (tls === undefined) return new Agent(OPTIONS)
  // Said, as Node's default obeys NODE_TLS_REJECT_UNAUTHORIZED of the environment.
  return new https.Agent({ ...OPTIONS, ...tls, rejectUnauthorized: true })
}

/** On the native front; plain HTTP without `trust`. */
export function createFrontAgent(transport: Transport, trust?: TrustHandle): http.Agent {
  return new FrontAgent(OPTIONS, transport, trust)
}

/** Ends idle connections, and those in use when they become idle: nothing new goes this way. */
export function retire(agent: http.Agent): void {
  agent.maxFreeSockets = 0
  for (const socket of idleSockets(agent)) socket.destroy()
}

/** Ends idle connections whose other end has gone: who sends a body cannot send it twice. */
export function dropStale(agent: http.Agent): void {
  for (const socket of idleSockets(agent)) {
    const isStale = socket instanceof DialedSocket ? socket.hasLeft : hasLeft(socket)
    if (isStale) socket.destroy()
  }
}

function idleSockets({ freeSockets }: http.Agent): Socket[] {
  return Object.values(freeSockets).flatMap((sockets) => sockets ?? [])
}
