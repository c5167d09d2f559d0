/**
 * Which format an image is in. A header alone never decides: the first bytes of a raw disk belong to its
 * guest, who can write a header there that names a file of this machine as backing file or extent, and
 * would have it served. So the name, which the user gave, must say the same as the header, or the user
 * says the format. qemu is always told the format and never guesses.
 */
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { extname } from 'node:path'
import { StartError } from './start-error.js'

/** Formats whose guest's data qemu reads, by qemu's names. */
export const GUEST_FORMATS = [
  'qcow2',
  'qcow',
  'vmdk',
  'vhdx',
  'vpc',
  'vdi',
  'qed',
  'parallels',
] as const

export type GuestFormat = (typeof GUEST_FORMATS)[number]
export type ImageFormat = 'raw' | GuestFormat

export interface FormatChoice {
  readonly format: ImageFormat
  /** What a header says that is served like the bytes around it, because the name does not agree. */
  readonly header?: GuestFormat
}

const FORMATS_BY_NAME: Readonly<Record<string, readonly GuestFormat[]>> = {
  '.qcow2': ['qcow2'],
  '.qcow': ['qcow2', 'qcow'], // the older format is rare, and newer files are called so as well
  '.vmdk': ['vmdk'],
  '.vhdx': ['vhdx'],
  '.vhd': ['vpc'],
  '.vpc': ['vpc'],
  '.vdi': ['vdi'],
  '.qed': ['qed'],
  '.hdd': ['parallels'],
}

const HEADER_SIZE = 512
const FOOTER_SIZE = 512
const VDI_SIGNATURE = 0xbeda107f
const VDI_SIGNATURE_OFFSET = 64
const MAGICS: readonly (readonly [string, GuestFormat])[] = [
  ['QFI\xfb\0\0\0\x01', 'qcow'],
  ['QFI\xfb', 'qcow2'],
  ['KDMV', 'vmdk'],
  ['COWD', 'vmdk'],
  ['# Disk Descriptor', 'vmdk'],
  ['vhdxfile', 'vhdx'],
  ['conectix', 'vpc'],
  ['QED\0', 'qed'],
  ['WithoutFreeSpace', 'parallels'],
  ['WithouFreSpacExt', 'parallels'],
]

/** `size` is that of the file. Throws StartError when name and header contradict each other. */
export async function chooseFormat(path: string, size: number): Promise<FormatChoice> {
  const header = await formatOfHeader(path, size)
  const expected = FORMATS_BY_NAME[extname(path).toLowerCase()]
  if (!expected) return { format: 'raw', ...(header && { header }) }
  if (header && expected.includes(header)) return { format: header }
  const found = header ? `holds a ${header} header` : `holds no ${expected[0]} header`
  const other = header ? `--format ${header} serves the guest's data, ` : ''
  throw new StartError(
    `${path}: the name says ${expected[0]}, but the file ${found}; ${other}--raw serves the file's own bytes`,
  )
}

async function formatOfHeader(path: string, size: number): Promise<GuestFormat | undefined> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const read = async (length: number, position: number): Promise<Buffer> => {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position)
    return buffer.subarray(0, bytesRead)
  }
  try {
    const head = await read(HEADER_SIZE, 0)
    const text = head.toString('latin1')
    const format = MAGICS.find(([magic]) => text.startsWith(magic))?.[1]
    if (format) return format
    if (isVdi(head)) return 'vdi'
    // One of fixed size is a raw disk with a footer.
    const tail = await read(FOOTER_SIZE, Math.max(0, size - FOOTER_SIZE))
    return tail.toString('latin1').startsWith('conectix') ? 'vpc' : undefined
  } finally {
    await file.close()
  }
}

function isVdi(head: Buffer): boolean {
  const offset = VDI_SIGNATURE_OFFSET
  return head.length >= offset + 4 && head.readUInt32LE(offset) === VDI_SIGNATURE
}
