/** The arguments of `npm start`, and its help. */
import { isIP } from 'node:net'
import { resolve } from 'node:path'
import { parseArgs, type ParseArgsOptionsConfig } from 'node:util'
import { GUEST_FORMATS, type ImageFormat } from './format.js'

export interface StartOptions {
  /** Absolute paths; none means the sample disk. */
  readonly images: readonly string[]
  readonly isWritable: boolean
  readonly isSparse: boolean
  /** Of all images; undefined means what each one's name says. */
  readonly format: ImageFormat | undefined
  /** Name of a bitmap in each image. */
  readonly bitmap: string | undefined
  /** An IP address or a name. */
  readonly host: string
  /** 0 is a free one. */
  readonly port: number
  /** Neither proxy nor transfer service. */
  readonly isDaemonOnly: boolean
  /** Absolute: where disks of the transfer service stay; undefined means with this run. */
  readonly transfersDir: string | undefined
  readonly isVerbose: boolean
}

export class UsageError extends Error {
  override readonly name = 'UsageError'
}

const IMAGE_FORMATS = ['raw', ...GUEST_FORMATS] as const

const OPTIONS = {
  writable: { type: 'boolean', default: false },
  sparse: { type: 'boolean', default: false },
  raw: { type: 'boolean', default: false },
  format: { type: 'string' },
  bitmap: { type: 'string' },
  host: { type: 'string', default: '127.0.0.1' },
  port: { type: 'string', default: '0' },
  transfers: { type: 'string' },
  'daemon-only': { type: 'boolean', default: false },
  verbose: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false },
} as const satisfies ParseArgsOptionsConfig

/** `directory` is what relative paths are relative to. Throws UsageError. */
export function parseOptions(argv: readonly string[], directory: string): StartOptions | 'help' {
  const { values, positionals } = parse(argv)
  if (values.help) return 'help'
  const isDaemonOnly = values['daemon-only']
  if (values.transfers === '') throw new UsageError('--transfers needs a directory')
  if (isDaemonOnly && values.transfers !== undefined) {
    throw new UsageError('--daemon-only and --transfers exclude each other')
  }
  if (!isHost(values.host)) throw new UsageError('--host must be an address or a name')
  const format = values.raw ? 'raw' : parseFormat(values.format)
  checkFormat(values, positionals.length > 0)
  return {
    images: positionals.map((path) => resolve(directory, path)),
    isWritable: values.writable,
    isSparse: values.sparse,
    format,
    bitmap: values.bitmap,
    host: values.host,
    port: parsePort(values.port),
    isDaemonOnly,
    transfersDir: values.transfers === undefined ? undefined : resolve(directory, values.transfers),
    isVerbose: values.verbose,
  }
}

function parse(argv: readonly string[]) {
  try {
    const parsed = parseArgs({ args: [...argv], options: OPTIONS, allowPositionals: true })
    if (parsed.positionals.includes('')) throw new UsageError('an image has an empty name')
    return parsed
  } catch (cause) {
    // The parser goes on with advice, in sentences or lines of their own.
    const [reason = ''] = (cause as Error).message.split(/\.?\s*\n|\. /)
    throw new UsageError(reason, { cause })
  }
}

function parseFormat(text: string | undefined): ImageFormat | undefined {
  if (text === undefined) return undefined
  const format = IMAGE_FORMATS.find((name) => name === text)
  if (format) return format
  throw new UsageError(`--format must be one of ${IMAGE_FORMATS.join(', ')}`)
}

interface FormatValues {
  readonly raw: boolean
  readonly format?: string
  readonly bitmap?: string
}

function checkFormat({ raw, format, bitmap }: FormatValues, hasImages: boolean): void {
  const isRaw = raw || format === 'raw'
  if (raw && format !== undefined && format !== 'raw') {
    throw new UsageError(`--raw and --format ${format} exclude each other`)
  }
  if (bitmap === '') throw new UsageError('--bitmap needs the name of one')
  if (bitmap !== undefined && isRaw) throw new UsageError('a raw image has no bitmaps')
  if (!hasImages && (raw || format !== undefined || bitmap !== undefined)) {
    throw new UsageError('--raw, --format and --bitmap need an image')
  }
}

function parsePort(text: string): number {
  const port = Number(text)
  if (/^\d+$/.test(text) && port <= 65535) return port
  throw new UsageError('--port must be from 1 to 65535, or 0 for a free one')
}

function isHost(text: string): boolean {
  return isIP(text) !== 0 || /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/i.test(text)
}

export const HELP = `Serves disk images over HTTPS from this machine, to try things out: imageio-daemon with the images,
imageio-proxy in front of it, and imageio-transfers, oVirt's ImageTransfer API.

Usage: npm start [-- [OPTIONS] [IMAGE ...]]

IMAGE is an image file or a block device; each gets its own URL. Without one a small sample disk
is made, which may be written to and is removed at the end.

Of an image whose name ends with .qcow2, .qcow, .vmdk, .vhdx, .vhd, .vpc, .vdi, .qed or .hdd (of
Parallels) the guest's data is served, through qemu-nbd (Debian: qemu-utils), with all its backing files: serve
only images you trust, since they name those files. One whose end is missing is refused. Of others
the file's own bytes are served, whatever header they begin with: a guest may have written it.

Options:
  --writable    clients may change the images (default: read only)
  --sparse      zeroed ranges are deallocated (default: they stay allocated)
  --raw         serve the files' own bytes, whatever their names
  --format F    serve the guest's data of images in this format, whatever their names: qcow2,
                qcow, vmdk, vhdx, vpc (a .vhd), vdi, qed, parallels; raw is the same as --raw
  --bitmap B    serve this persistent bitmap of a qcow2 image: URL/extents?context=dirty
  --host HOST   address to listen on (default 127.0.0.1: only this machine can connect)
  --port N      port of the daemon (default: a free one, as those of the others)
  --transfers D keep disks and database of the transfer service in directory D (default: they belong
                to this run, and are removed at the end)
  --daemon-only neither proxy nor transfer service
  --verbose     show the logs of the servers, with every request, and qemu-nbd's
  -h, --help    this text

A URL holds a random ticket id, and whoever knows it has access until you stop with Ctrl-C. The
certificate is made for each run and signed by a CA made once for this checkout, kept in .dev/pki;
point clients at its ca.pem. The live line counts bytes each time they are moved. When a transfer of the
transfer service ends, or is paused by it, a line says so, and why.

When the qemu-nbd of one image dies a line says so, and the others are served on; behind the last one
the command ends with 1.

Exit status: 0 stopped by Ctrl-C or SIGTERM, 1 the images cannot be served, 2 wrong arguments. npm
passes it on, but Ctrl-C reaches npm as well, and the shell may see npm's own 130 instead of 0.
SIGTERM to npm ends everything. After SIGKILL all servers end as well, but for qemu-nbd of unfinished
transfers, and their directory imageio-XXXXXX stays in TMPDIR (/tmp).
`
