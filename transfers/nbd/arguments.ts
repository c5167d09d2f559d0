/** The command line of qemu-nbd for a transfer of the guest's data (transfer-lifecycle, 9). */
import type { Direction, DiskFormat } from '../model.js'
import type { ServerFiles } from './server-files.js'

export interface ServedVolume {
  /** Absolute. */
  readonly path: string
  /** The disk's own; qemu never guesses. */
  readonly format: DiskFormat
  readonly direction: Direction
  /** Of the disk, on storage that has holes. */
  readonly isSparse: boolean
}

const JSON_SPEC = 'json:'

export function qemuNbdArguments(
  volume: ServedVolume,
  { socket, pidFile }: Pick<ServerFiles, 'socket' | 'pidFile'>,
  isDirect: boolean,
): string[] {
  const { format, direction, isSparse } = volume
  return [
    // It stays when the last client is gone, who may come back; the transfer ends it. As many connections
    // as the daemon makes: a proxy keeps some that are idle, and the next would wait for them.
    ...['--persistent', '--shared=0'],
    ...[`--socket=${socket}`, `--pid-file=${pidFile}`],
    // A transfer of terabytes shall not push everything else out of the page cache.
    ...(isDirect ? ['--cache=none', '--aio=native'] : ['--cache=writeback']),
    ...(format === 'cow' ? ['--allocation-depth'] : []),
    ...(direction === 'download' ? ['--read-only'] : writeArguments(isSparse)),
    imageSpec(volume),
  ]
}

function writeArguments(isSparse: boolean): string[] {
  return isSparse ? ['--discard=unmap', '--detect-zeroes=unmap'] : ['--detect-zeroes=on']
}

/**
 * Nothing of the path is taken for an option or a protocol. Disks have one volume, so what a header
 * says about a backing file is never opened, whether the transfer is a shallow one or not.
 */
function imageSpec({ path, format }: ServedVolume): string {
  const file = { driver: 'file', filename: path }
  const image =
    format === 'cow' ? { driver: 'qcow2', file, backing: null } : { driver: 'raw', file }
  return `${JSON_SPEC}${JSON.stringify(image)}`
}

/** The path in what qemuNbdArguments() has made. */
export function servedPath(args: readonly string[]): string | undefined {
  const spec = args.findLast((arg) => arg !== '') ?? ''
  if (!spec.startsWith(JSON_SPEC)) return undefined
  try {
    const image: unknown = JSON.parse(spec.slice(JSON_SPEC.length))
    const filename = member(member(image, 'file'), 'filename')
    return typeof filename === 'string' ? filename : undefined
  } catch {
    return undefined
  }
}

function member(value: unknown, name: string): unknown {
  const isRecord = typeof value === 'object' && value !== null
  return isRecord ? (value as Record<string, unknown>)[name] : undefined
}
