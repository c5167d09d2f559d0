/** What qemu itself makes of a qcow2 image whose header was already looked at. */
import { runLimited, VERIFY_LIMITS, VerificationError, type ChildResult } from './limited-child.js'
import { ImageRefused, type ImageFile } from './image-file.js'

export interface QemuFacts {
  readonly virtualSize: number
}

/** The image crashed qemu, or took more time or memory than any image should. */
const FAULTS_OF_IMAGE: ReadonlySet<string> = new Set<NodeJS.Signals>([
  'SIGABRT',
  'SIGBUS',
  'SIGFPE',
  'SIGILL',
  'SIGSEGV',
  'SIGSYS',
  'SIGTRAP',
  'SIGXCPU',
  'SIGXFSZ',
])

const NO_THREAD = /qemu_thread_create: Resource temporarily unavailable/

/** Of the storage, or of this machine, never of what is in the image. */
const SYSTEM_ERROR =
  /: (Input\/output error|Permission denied|Stale file handle|Connection timed out|Too many open files( in system)?|No such file or directory|Transport endpoint is not connected)$/

/** Throws ImageRefused, and VerificationError when qemu cannot be asked. */
export async function qemuInfo(image: ImageFile, limits = VERIFY_LIMITS): Promise<QemuFacts> {
  // -U: nobody writes any more; a lock that somebody forgot must not condemn an image.
  const args = ['info', '-U', '-f', 'qcow2', '--output=json', '/proc/self/fd/3']
  const result = await runLimited('qemu-img', args, image.handle.fd, limits)
  checkResult(result)
  return decode(result.stdout)
}

function checkResult({ status, signal, stderr, endedBy }: ChildResult): void {
  if (endedBy === 'output') throw new ImageRefused('qemu-img tells too much about the image')
  // Little was asked of the processor, which has a limit of its own: the storage does not answer.
  if (endedBy === 'timeout') throw new VerificationError('qemu-img does not end')
  if (signal !== undefined) {
    // It also aborts when the machine gives it no more threads.
    const isOfImage = FAULTS_OF_IMAGE.has(signal) && !NO_THREAD.test(stderr)
    if (isOfImage) throw new ImageRefused(`qemu-img was ended by ${signal}`)
    throw new VerificationError(`qemu-img was killed by ${signal}`)
  }
  if (status === 0) return
  const said = stderr.trim().split('\n').at(-1) ?? ''
  const complaint = printable(said)
  if (!said.startsWith('qemu-img: ') || SYSTEM_ERROR.test(said)) {
    throw new VerificationError(`qemu-img ended with status ${status ?? '?'}: ${complaint}`)
  }
  throw new ImageRefused(complaint.replace(/^qemu-img: Could not open '[^']*': /, 'qemu: '))
}

function decode(stdout: string): QemuFacts {
  const info = parse(stdout)
  const virtualSize = info['virtual-size']
  if (info['format'] !== 'qcow2' || typeof virtualSize !== 'number') {
    throw new ImageRefused('qemu-img tells nonsense about the image')
  }
  const specific = asRecord(asRecord(info['format-specific'])['data'])
  // Again, in qemu's own words, should it read a header in another way than we do.
  const files = [info['backing-filename'], info['full-backing-filename'], specific['data-file']]
  if (files.some((file) => file !== undefined)) {
    throw new ImageRefused('qemu sees a file beside the image')
  }
  if (info['encrypted'] === true || specific['encrypt'] !== undefined) {
    throw new ImageRefused('qemu sees an encrypted image')
  }
  return { virtualSize }
}

function parse(text: string): Record<string, unknown> {
  try {
    return asRecord(JSON.parse(text))
  } catch {
    throw new ImageRefused('qemu-img tells nonsense about the image')
  }
}

function asRecord(value: unknown): Record<string, unknown> {
  const isRecord = typeof value === 'object' && value !== null
  return isRecord ? (value as Record<string, unknown>) : {}
}

/** Names in an image may hold anything. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, '?').slice(0, 500)
}
