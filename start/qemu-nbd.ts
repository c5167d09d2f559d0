/** qemu-nbd as a child: one for each image whose guest's data is served. */
import { constants } from 'node:fs'
import { access, open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { startChild, untilReady, type Child } from './child.js'
import type { GuestImage } from './image.js'
import { qemuFailure, runQemuTool } from './qemu-tools.js'
import { StartError } from './start-error.js'

export interface QemuNbd extends Child {
  /** For a ticket. */
  readonly url: string
}

export interface QemuNbdOptions {
  readonly image: GuestImage
  /** Private, for the socket. */
  readonly runDir: string
  /** Unlike any other in the directory. */
  readonly name: string
  /** Ends the wait for it. */
  readonly signal: AbortSignal
  readonly onLog?: (text: string) => void
}

export interface Abilities {
  /** --allocation-depth came with qemu 5.2. */
  readonly canTellDepth: boolean
  /** Of the storage: every file of the image can be opened with O_DIRECT. */
  readonly isDirect: boolean
}

const START_TIMEOUT_MS = 60_000
/** It flushes and writes the image's metadata first, perhaps to slow storage. */
const STOP_TIMEOUT_MS = 120_000
/** sun_path without its NUL. */
const MAX_SOCKET_PATH = 107

/** Resolves when it serves. Throws StartError. */
export async function startQemuNbd(options: QemuNbdOptions): Promise<QemuNbd> {
  const { image, runDir, name, signal, onLog } = options
  const { path, guest } = image
  const socket = join(runDir, `${name}.sock`)
  if (Buffer.byteLength(socket) > MAX_SOCKET_PATH || socket.includes(':')) {
    throw new StartError(
      `no socket for qemu-nbd can have the name ${socket}; set TMPDIR to another`,
    )
  }
  const pidFile = join(runDir, `${name}.pid`)
  const help = await runQemuTool('qemu-nbd', ['--help'])
  const abilities = {
    canTellDepth: help.includes('--allocation-depth'),
    isDirect: await canBeDirect([path, ...guest.otherFiles.map((file) => file.name)]),
  }
  const child = startChild({
    name: `qemu-nbd, which serves ${path},`,
    program: 'qemu-nbd',
    args: qemuNbdArguments(image, abilities, { socket, pidFile }),
    env: { ...process.env, LC_ALL: 'C' },
    cwd: dirname(path), // as for qemu-img, which found the data file from there
    stopTimeoutMs: STOP_TIMEOUT_MS,
    ...(onLog && { onLog }),
  })
  const died = child.died.catch((cause: unknown) => {
    throw qemuFailure(path, guest.format, child.log(), cause)
  })
  died.catch(() => undefined) // it may die later, which is told in other words
  await untilReady(
    { ...child, died },
    {
      name: 'qemu-nbd',
      // It listens before it opens the image, but writes its pid file when both are done.
      isReady: () => exists(pidFile),
      timeoutMs: START_TIMEOUT_MS,
      signal,
    },
  )
  return { ...child, url: `nbd:unix:${socket}` }
}

/** The path of an image is absolute, so it cannot be taken for an option or a protocol. */
export function qemuNbdArguments(
  { path, guest, isWritable, isSparse }: GuestImage,
  { canTellDepth, isDirect }: Abilities,
  { socket, pidFile }: { readonly socket: string; readonly pidFile: string },
): string[] {
  return [
    // Each connection to the daemon has one of its own here, and the daemon limits those.
    ...['--persistent', '--shared=0'],
    ...['-k', socket, `--pid-file=${pidFile}`],
    ...['-f', guest.format],
    ...(isWritable ? [] : ['-r']),
    // A transfer of terabytes shall not push everything else out of the page cache.
    ...(isDirect ? ['--cache=none', '--aio=native'] : []),
    ...(isWritable && isSparse ? ['--discard=unmap', '--detect-zeroes=unmap'] : []),
    ...(canTellDepth ? ['--allocation-depth'] : []),
    ...(guest.bitmap === undefined ? [] : [`--bitmap=${guest.bitmap}`]),
    path,
  ]
}

/** False for what is no local file: qemu's other protocols do without. */
async function canBeDirect(paths: readonly string[]): Promise<boolean> {
  const { O_RDONLY, O_DIRECT, O_NONBLOCK } = constants
  try {
    for (const path of paths) {
      const file = await open(path, O_RDONLY | O_DIRECT | O_NONBLOCK)
      await file.close()
    }
    return true
  } catch {
    return false
  }
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
