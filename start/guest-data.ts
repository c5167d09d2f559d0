/** The guest's disk inside an image file, as qemu-img describes it. */
import { dirname, resolve } from 'node:path'
import { findCutFile, type Layer, type Part } from './cut-files.js'
import type { GuestFormat } from './format.js'
import { qemuFailure, runQemuTool } from './qemu-tools.js'
import { StartError } from './start-error.js'

export interface GuestData {
  readonly format: GuestFormat
  /** What the guest sees. */
  readonly size: number
  /** What qemu reads beside the image, as its header says: backing files, data files, extents. */
  readonly otherFiles: readonly OtherFile[]
  /** Whether the ends of all these files are there is not known: there is too much to look at. */
  readonly isUnsure?: true
  /** A persistent bitmap to be served with it. */
  readonly bitmap?: string
}

export interface OtherFile {
  /** Or whatever else qemu takes for one: `nbd://host`. */
  readonly name: string
  readonly format: string
}

export interface GuestWishes {
  readonly isWritable: boolean
  readonly bitmap: string | undefined
}

/** Throws StartError, also for what qemu would open but should not. */
export async function readGuestData(
  path: string,
  format: GuestFormat,
  { isWritable, bitmap }: GuestWishes,
): Promise<GuestData> {
  const args = ['info', '--output=json', '--backing-chain', '-f', format, path]
  // qemu takes a relative data file from its own directory; it is more likely beside the image.
  const directory = dirname(path)
  const output = await runQemuTool('qemu-img', args, directory).catch((cause: unknown) => {
    if (cause instanceof StartError) throw cause
    throw qemuFailure(path, format, (cause as { stderr?: string }).stderr ?? '', cause)
  })
  const chain = (JSON.parse(output) as object[]).map((info) => new Info(info, directory))
  const refuse = (reason: string) => new StartError(`${path}: ${reason}`)
  for (const info of chain) {
    const problem = problemOf(info)
    if (problem) throw refuse(`${info === chain[0] ? '' : `${info.name} `}${problem}`)
  }
  const [image] = chain
  if (!image) throw refuse('qemu-img says nothing about it')
  if (isWritable && image.subformat === 'streamOptimized') {
    throw refuse('qemu cannot write to a streamOptimized vmdk; serve it without --writable')
  }
  const noBitmap = bitmap === undefined ? undefined : problemOfBitmap(image, bitmap)
  if (noBitmap) throw refuse(noBitmap)
  const { cutFile, isUnsure } = await findCutFile(
    chain.map((info) => info.layer),
    { cwd: directory },
  )
  if (cutFile !== undefined) {
    const what = cutFile === path ? 'its end' : `the end of ${cutFile}`
    throw refuse(
      `${what} is missing, with data of the guest; a copy would have zeroes there; --raw serves the file's own bytes`,
    )
  }
  return {
    format,
    size: image.size,
    otherFiles: [
      ...image.parts,
      ...chain
        .slice(1)
        .flatMap((info) => [{ name: info.name, format: info.format }, ...info.parts]),
    ],
    ...(isUnsure && { isUnsure }),
    ...(bitmap !== undefined && { bitmap }),
  }
}

function problemOf(info: Info): string | undefined {
  if (info.isEncrypted) {
    return 'is encrypted by qemu; decrypt a copy first (qemu-img convert --object secret,...), or --raw serves the encrypted bytes'
  }
  if (info.isCorrupt) {
    return "is marked as corrupt; copy it, then try qemu-img check -r all, or --raw serves the file's own bytes"
  }
  if (info.hasUnstatedBacking) {
    // The backing file may be raw, and its guest may have written a header for qemu to find.
    return `does not say which format its backing file ${info.backing} is in, and guessing is not safe; state it with qemu-img rebase -u -b FILE -F FORMAT`
  }
  return undefined
}

function problemOfBitmap({ bitmaps }: Info, name: string): string | undefined {
  const bitmap = bitmaps.find((one) => one.name === name)
  if (!bitmap) {
    const names = bitmaps.map((one) => one.name).join(', ') || 'none'
    return `it has no bitmap ${name} (bitmaps in it: ${names})`
  }
  if (!bitmap.isInUse) return undefined
  return (
    `its bitmap ${name} does not tell all that changed, because the program that wrote the image last ended badly; ` +
    `remove it (qemu-img bitmap --remove IMAGE ${name}) and begin with a full backup; without --bitmap the image is served`
  )
}

/** One element of what qemu-img info answers; fields it lacks are empty. */
class Info {
  readonly #fields: Fields
  readonly #specific: Fields
  readonly #directory: string

  /** `directory` is qemu's. */
  constructor(info: object, directory: string) {
    this.#directory = directory
    this.#fields = fieldsOf(info)
    this.#specific = fieldsOf(fieldsOf(this.#fields['format-specific'])['data'])
  }

  get name(): string {
    return text(this.#fields['filename'])
  }

  get format(): string {
    return text(this.#fields['format'])
  }

  get size(): number {
    const size = this.#fields['virtual-size']
    if (Number.isSafeInteger(size)) return size as number
    throw new StartError(`${this.name}: qemu-img does not tell the size`)
  }

  get subformat(): string {
    return text(this.#specific['create-type'])
  }

  get isEncrypted(): boolean {
    return this.#fields['encrypted'] === true
  }

  get isCorrupt(): boolean {
    return this.#specific['corrupt'] === true
  }

  get backing(): string {
    return text(this.#fields['backing-filename'])
  }

  get hasUnstatedBacking(): boolean {
    return this.backing !== '' && text(this.#fields['backing-filename-format']) === ''
  }

  get bitmaps(): Bitmap[] {
    return list(this.#specific['bitmaps'])
      .map(fieldsOf)
      .map((bitmap) => ({
        name: text(bitmap['name']),
        isInUse: list(bitmap['flags']).includes('in-use'),
      }))
  }

  /** Files that hold its data: of qcow2 a data file, of vmdk extents. */
  get parts(): OtherFile[] {
    const { dataFile } = this
    return [
      ...(dataFile === undefined ? [] : [{ name: dataFile, format: 'data file' }]),
      ...this.extents
        .filter(({ name }) => name !== this.name)
        .map(({ name }) => ({ name, format: 'extent' })),
    ]
  }

  get layer(): Layer {
    const { name, format, subformat, extents, dataFile = name } = this
    return {
      name,
      format,
      subformat,
      clusterSize: number(this.#fields['cluster-size']),
      parts: extents.length > 0 ? extents : [{ name: dataFile, size: Infinity }],
    }
  }

  get dataFile(): string | undefined {
    const name = text(this.#specific['data-file'])
    return name === '' ? undefined : this.#absolute(name)
  }

  get extents(): Part[] {
    return list(this.#specific['extents']).map((extent) => ({
      name: text(fieldsOf(extent)['filename']),
      size: number(fieldsOf(extent)['virtual-size']),
    }))
  }

  #absolute(name: string): string {
    return /^[\w-]+:/.test(name) ? name : resolve(this.#directory, name)
  }
}

interface Bitmap {
  readonly name: string
  /** Marked so while qemu has the image open, and ever after if qemu ends badly. */
  readonly isInUse: boolean
}

type Fields = Readonly<Record<string, unknown>>

function fieldsOf(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? (value as Fields) : {}
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : []
}

function number(value: unknown): number {
  return typeof value === 'number' ? value : 0
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}
