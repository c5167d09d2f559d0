/** Where the server of a transfer has its files: known from the id alone, so that it is found again. */
import { join } from 'node:path'
import type { Id } from '../model.js'
import { NbdServerError } from './nbd-server-error.js'

export interface ServerFiles {
  readonly socket: string
  /** Written by qemu-nbd once it serves. */
  readonly pidFile: string
  readonly log: string
}

const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/
const SUFFIXES = ['.sock', '.pid', '.log'] as const
/** sun_path without its NUL. */
const MAX_SOCKET_PATH = 107

/** Throws NbdServerError when no socket can be there. */
export function serverFiles(runDir: string, transferId: Id): ServerFiles {
  if (!ID.test(transferId)) throw new TypeError('a transfer id is no file name')
  const base = join(runDir, transferId)
  const socket = `${base}.sock`
  // A colon would end the path in the URL of a ticket.
  if (Buffer.byteLength(socket) > MAX_SOCKET_PATH || socket.includes(':')) {
    throw new NbdServerError(`no socket can have the name ${socket}; set another run_dir`)
  }
  return { socket, pidFile: `${base}.pid`, log: `${base}.log` }
}

/** The transfer a file in the run directory belongs to. */
export function transferOf(fileName: string): Id | undefined {
  const suffix = SUFFIXES.find((each) => fileName.endsWith(each))
  const id = suffix === undefined ? '' : fileName.slice(0, -suffix.length)
  return ID.test(id) ? id : undefined
}
