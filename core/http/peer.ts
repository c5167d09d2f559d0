/** What the kernel says about the other end of a socket. */
import { statSync } from 'node:fs'
import type { Socket } from 'node:net'
import { hasPeerEnded, peerCredentials, type PeerCredentials } from '../../native/index.js'

/** Node has no public way to a socket's descriptor; this is where it has kept it since version 0.5. */
interface SocketWithHandle extends Socket {
  readonly _handle?: { readonly fd?: number } | null
}

/**
 * Whether the peer may manage what the socket at `path` serves: root, this process's own user, the
 * socket's owner, and members of its group. A second lock behind the file's mode, and the only one of
 * an abstract name. Without credentials the answer is no.
 */
export function mayManage(socket: Socket, path: string): boolean {
  const peer = credentialsOf(socket)
  if (peer === undefined) return false
  if (peer.uid === 0 || peer.uid === process.geteuid?.()) return true
  if (path.startsWith('\0')) return false
  const { uid, gid } = statSync(path)
  return peer.uid === uid || peer.gid === gid || peer.groups.includes(gid)
}

/** Whether the client of a TCP connection has ended it, also when Node has not noticed. */
export function hasLeft(socket: Socket): boolean {
  return ask(socket, hasPeerEnded) ?? false
}

function credentialsOf(socket: Socket): PeerCredentials | undefined {
  return ask(socket, peerCredentials)
}

function ask<T>(socket: Socket, call: (fd: number) => T): T | undefined {
  const fd = (socket as SocketWithHandle)._handle?.fd
  try {
    return fd === undefined || fd < 0 ? undefined : call(fd)
  } catch {
    return undefined
  }
}
