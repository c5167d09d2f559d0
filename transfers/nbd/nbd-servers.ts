/**
 * qemu-nbd for transfers of the guest's data: one for each transfer, started in a session of its own,
 * so that neither a restart of the service nor its end interrupts the data. (A service manager must
 * be told as well: KillMode=process.)
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { constants } from 'node:fs'
import { access, chmod, lchown, open, readFile, readdir, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { directoryIdentity } from '../../core/directories/directory-identity.js'
import { makeDirectory } from '../../core/directories/make-directory.js'
import type { Id } from '../model.js'
import { ImageFile } from '../verify/image-file.js'
import { checkOwnFile } from '../verify/own-file.js'
import { inspectQcow2 } from '../verify/qcow2.js'
import { qemuNbdArguments, type ServedVolume } from './arguments.js'
import { knock } from './greeting.js'
import { NbdServerError } from './nbd-server-error.js'
import { serverFiles, transferOf, type ServerFiles } from './server-files.js'
import { endServer, findServer, servers } from './server-process.js'

export { NbdServerError }
export type { ServedVolume }

export interface NbdServersOptions {
  /** For sockets and pid files; absolute and ours alone, for who writes there is believed. */
  readonly runDir: string
  /**
   * Directories of volumes, by whatever path. A server of one of these that another instance has started, which has another
   * run directory, is found as well: it is for the transfer that it is named by.
   */
  readonly storage?: readonly string[]
  /** The group of the daemon, which connects; ours must be a member of it. */
  readonly group?: number
  readonly startTimeoutMs?: number
  /** To flush and close the image, before it is killed. */
  readonly stopTimeoutMs?: number
}

export interface NbdServer {
  readonly pid: number
  /** For a ticket. */
  readonly url: string
}

const POLL_MS = 20
const DIRECTORY_MODE = 0o750
const SOCKET_MODE = 0o660
const LOG_MODE = 0o640
/** Of the log, in errors. */
const LOG_TAIL = 2000
const GREETING_TIMEOUT_MS = 1000

/**
 * Its allocator returns the memory of large requests to the kernel after each of them, and faults it
 * in again: 0.86 CPU seconds per GiB of a download, 0.3 when it keeps it.
 */
const ALLOCATOR = {
  MALLOC_TRIM_THRESHOLD_: String(128 * 1024 * 1024),
  MALLOC_MMAP_THRESHOLD_: String(32 * 1024 * 1024),
}

/** Sockets and pid files are the group's only once they were given to it. */
const START = 'umask 077; exec "$@"'

/** Times the ordinary timeout, for a server that must not be killed. */
const PATIENCE = 6

export class NbdServers {
  readonly #runDir: string
  readonly #storage: readonly string[]
  readonly #group: number | undefined
  readonly #startTimeoutMs: number
  readonly #stopTimeoutMs: number

  constructor(options: NbdServersOptions) {
    const { runDir, storage = [], group, startTimeoutMs = 10_000, stopTimeoutMs = 10_000 } = options
    this.#runDir = runDir
    this.#storage = storage
    this.#group = group
    this.#startTimeoutMs = startTimeoutMs
    this.#stopTimeoutMs = stopTimeoutMs
  }

  /** Where the server of this transfer would be. */
  url(transferId: Id): string {
    return urlOf(serverFiles(this.#runDir, transferId))
  }

  /**
   * Resolves when it serves. One that serves already is ended: it may have been started for what the
   * disk was before. Throws NbdServerError, and then nothing runs.
   */
  async start(transferId: Id, volume: ServedVolume, signal?: AbortSignal): Promise<NbdServer> {
    const files = serverFiles(this.#runDir, transferId)
    await this.#prepareDirectory()
    await this.stop(transferId)
    signal?.throwIfAborted()
    await checkVolume(volume)
    const child = await this.#spawn(volume, files)
    try {
      const pid = await this.#ready(child, files, signal)
      await this.#share(files.socket)
      child.unref()
      return { pid, url: this.url(transferId) }
    } catch (error) {
      await killChild(child)
      await this.stop(transferId)
      throw error
    }
  }

  /** One that runs and listens, whoever of us started it. */
  async find(transferId: Id): Promise<NbdServer | undefined> {
    const files = serverFiles(this.#runDir, transferId)
    const pid = await findServer(files)
    const found = pid === undefined ? await this.#elsewhere(transferId) : [{ pid, files }]
    for (const { pid, files } of found) {
      // A server with all its clients accepts no more, but still listens.
      const answer = await knock(files.socket, GREETING_TIMEOUT_MS)
      if (answer !== 'none') return { pid, url: urlOf(files) }
    }
    return undefined
  }

  /**
   * Also of one that never ran. Throws NbdServerError when it cannot be ended. One that must not be killed is
   * given more time: it may have a lot to store.
   */
  async stop(transferId: Id, { mayKill = true } = {}): Promise<void> {
    const files = serverFiles(this.#runDir, transferId)
    const pid = await findServer(files)
    for (const each of [{ pid, files }, ...(await this.#elsewhere(transferId))]) {
      const timeoutMs = mayKill ? this.#stopTimeoutMs : this.#stopTimeoutMs * PATIENCE
      if (each.pid !== undefined) await endServer(each.pid, each.files, { timeoutMs, mayKill })
      for (const path of Object.values(each.files) as string[]) await rm(path, { force: true })
    }
  }

  /** Transfers that have a server here, or something left of one. */
  async list(): Promise<readonly Id[]> {
    const names = await readdir(this.#runDir).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
      throw error
    })
    const running = (await servers())
      .filter(({ socket }) => dirname(socket) === join(this.#runDir))
      .map(({ socket }) => basename(socket))
    const ids = [...names, ...running].map(transferOf).filter((id) => id !== undefined)
    return [...new Set(ids)].sort()
  }

  /** Left by instances with other run directories. */
  async #elsewhere(
    transferId: Id,
  ): Promise<{ readonly pid: number; readonly files: ServerFiles }[]> {
    if (this.#storage.length === 0) return []
    const { socket: ours } = serverFiles(this.#runDir, transferId)
    const others = (await servers()).filter(
      ({ socket }) => socket !== ours && basename(socket) === basename(ours),
    )
    if (others.length === 0) return []
    // Each time anew: what is mounted there may change.
    const storage = new Set(await Promise.all(this.#storage.map(directoryIdentity)))
    const found: { readonly pid: number; readonly files: ServerFiles }[] = []
    for (const { pid, socket, path } of others) {
      if (path === undefined || !storage.has(await directoryIdentity(dirname(path)))) continue
      found.push({ pid, files: serverFiles(dirname(socket), transferId) })
    }
    return found
  }

  async #prepareDirectory(): Promise<void> {
    const isNew = await makeDirectory(this.#runDir, DIRECTORY_MODE)
    if (isNew) await chmod(this.#runDir, DIRECTORY_MODE) // whatever the umask
    // Also one that a service manager has made for us.
    if (this.#group !== undefined) await lchown(this.#runDir, -1, this.#group)
  }

  async #spawn(volume: ServedVolume, files: ServerFiles): Promise<ChildProcess> {
    const { O_WRONLY, O_CREAT, O_APPEND, O_NOFOLLOW } = constants
    const args = qemuNbdArguments(volume, files, await canBeDirect(volume.path))
    const log = await open(files.log, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, LOG_MODE)
    try {
      const child = spawn('sh', ['-c', START, 'sh', 'qemu-nbd', ...args], {
        detached: true,
        stdio: ['ignore', log.fd, log.fd],
        env: { PATH: process.env['PATH'], LC_ALL: 'C', ...ALLOCATOR },
        cwd: '/',
      })
      if (child.pid === undefined) throw await startFailure(child)
      child.on('error', () => undefined) // of signals, whose effect is waited for
      return child
    } finally {
      await log.close()
    }
  }

  /** It listens before it opens the image, and writes its pid when both are done. */
  async #ready(
    child: ChildProcess,
    files: ServerFiles,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const deadline = performance.now() + this.#startTimeoutMs
    for (;;) {
      signal?.throwIfAborted()
      if (hasExited(child)) {
        throw new NbdServerError(`qemu-nbd does not start: ${await logTail(files)}`)
      }
      if (await isServing(files)) return child.pid ?? 0
      if (performance.now() > deadline) {
        throw new NbdServerError(`qemu-nbd is not ready in time: ${await logTail(files)}`)
      }
      await sleep(POLL_MS, undefined, signal && { signal })
    }
  }

  async #share(socket: string): Promise<void> {
    try {
      if (this.#group !== undefined) await lchown(socket, -1, this.#group)
      await chmod(socket, SOCKET_MODE)
    } catch (cause) {
      throw new NbdServerError('the daemon cannot be let in to the socket of qemu-nbd', { cause })
    }
  }
}

function urlOf({ socket }: ServerFiles): string {
  return `nbd:unix:${socket}`
}

function startFailure(child: ChildProcess): Promise<NbdServerError> {
  return new Promise((resolve) => {
    child.once('error', (cause) => {
      resolve(new NbdServerError(`qemu-nbd does not start: ${cause.message}`, { cause }))
    })
  })
}

/** It has served nobody yet. Known as our child, whatever its command line says meanwhile. */
async function killChild(child: ChildProcess): Promise<void> {
  if (hasExited(child)) return
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  child.kill('SIGKILL')
  await exited
}

function hasExited({ pid, exitCode, signalCode }: ChildProcess): boolean {
  return pid === undefined || exitCode !== null || signalCode !== null
}

async function isServing({ pidFile, socket }: ServerFiles): Promise<boolean> {
  const isWritten = await access(pidFile).then(
    () => true,
    () => false,
  )
  return isWritten && (await knock(socket, GREETING_TIMEOUT_MS)) === 'greets'
}

/**
 * Only verified images should come here. Still, a header that names other files or needs a secret is
 * not given to a program that would open them.
 */
async function checkVolume({ path, format }: ServedVolume): Promise<void> {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants
  try {
    const handle = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
    try {
      const status = await handle.stat({ bigint: true })
      checkOwnFile(status)
      if (format === 'cow') await inspectQcow2(new ImageFile(handle, status.size))
    } finally {
      await handle.close()
    }
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new NbdServerError(`the volume ${path} cannot be served: ${reason}`, { cause })
  }
}

async function canBeDirect(path: string): Promise<boolean> {
  try {
    await (await open(path, constants.O_RDONLY | constants.O_DIRECT)).close()
    return true
  } catch {
    return false
  }
}

async function logTail({ log }: ServerFiles): Promise<string> {
  const text = await readFile(log, 'utf8').catch(() => '')
  return text.trim().slice(-LOG_TAIL) || 'it says no reason'
}
