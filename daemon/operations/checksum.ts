/**
 * The checksum of an image (checksum.md): a digest over the digests of its blocks. Blocks that are zero
 * by the image's extents are not read; the result depends on content alone.
 */
import { DIGEST_ALGORITHMS, Digest, type DigestAlgorithm } from '../../native/index.js'
import type { Backend } from '../backends/backend.js'
import { BlockHasher } from './block-hasher.js'
import { blockRegions, type BlockRegion } from './block-regions.js'
import {
  ImageTruncatedError,
  outcomeOf,
  valueOf,
  type OperationContext,
  type Outcome,
} from './operation.js'

export { DIGEST_ALGORITHMS, type DigestAlgorithm }

export interface ChecksumOptions {
  readonly algorithm: DigestAlgorithm
  readonly blockSize: number
  /** Also data that is zero is told as such. Costs the digest of one block. */
  readonly findsZeroes?: boolean
  /** Takes the digests, in order; blocks are hashed ahead of it by a bounded number only. */
  readonly onBlocks?: (run: BlockRun) => Promise<void>
}

/** Blocks that follow each other and have one digest: a block, or a piece of a hole. */
export interface BlockRun {
  readonly offset: number
  /** Bytes of each block. */
  readonly size: number
  readonly count: number
  readonly digest: Buffer
  readonly zero: boolean
}

/** Blocks of a hole in one step: cancel and progress stay live, 64 KiB of digests are hashed. */
const MAX_RUN = 2048

/** The bytes of a few digests are hashed faster than handed to another thread. */
const MAX_BYTES_NOW = 4096

/** Hex digest of [0, size). When it settles nothing is read any more. */
export async function checksumImage(
  backend: Backend,
  size: number,
  options: ChecksumOptions,
  context: OperationContext,
): Promise<string> {
  const { signal, buffers } = context
  signal.throwIfAborted()
  const outer = new OuterDigest(options, context)
  if (size === 0) return outer.finish()
  const { algorithm } = options
  const hasher = await BlockHasher.create(backend, { algorithm, end: size, buffers, signal })
  const pending: Promise<Outcome<BlockRun>>[] = []
  const takeOldest = async (): Promise<void> => {
    const oldest = pending.shift()
    if (oldest !== undefined) await outer.add(valueOf(await oldest))
  }
  try {
    for await (const run of runs(backend, size, options, signal)) {
      if (pending.length >= hasher.lanes) await takeOldest()
      pending.push(outcomeOf(digestOf(run, hasher, options)))
    }
    while (pending.length > 0) await takeOldest()
    // Extents call zero what lies behind the end: of blocks that were not read this tells.
    const sizeNow = await backend.size()
    if (sizeNow < size) throw new ImageTruncatedError(size, sizeNow)
    return outer.finish()
  } finally {
    hasher.stop()
    await Promise.all(pending)
    hasher.release()
  }
}

/** Feeds the digests of blocks to the digest over them, and tells who wants to know. */
class OuterDigest {
  readonly #digest: Digest
  readonly #onBlocks: (run: BlockRun) => Promise<void>
  readonly #context: OperationContext

  constructor({ algorithm, onBlocks }: ChecksumOptions, context: OperationContext) {
    this.#digest = new Digest(algorithm)
    this.#onBlocks = onBlocks ?? (() => Promise.resolve())
    this.#context = context
  }

  async add(run: BlockRun): Promise<void> {
    const { offset, size, count, digest } = run
    const { signal, onProgress } = this.#context
    signal.throwIfAborted()
    const bytes = count === 1 ? digest : Buffer.alloc(count * digest.length, digest)
    if (bytes.length <= MAX_BYTES_NOW) this.#digest.updateNow(bytes)
    else await this.#digest.update(bytes)
    await this.#onBlocks(run)
    onProgress(offset, size * count)
  }

  finish(): string {
    return this.#digest.finish().toString('hex')
  }
}

/** Bytes. */
export function digestSize(algorithm: DigestAlgorithm): number {
  return new Digest(algorithm).finish().length
}

type Blocks = Omit<BlockRun, 'digest'>

async function* runs(
  backend: Backend,
  size: number,
  { blockSize }: ChecksumOptions,
  signal: AbortSignal,
): AsyncGenerator<Blocks> {
  const pages = whileWanted(backend.extents(0, size, 'zero'), signal)
  for await (const region of blockRegions(pages, size, blockSize)) {
    yield* runsOf(region, blockSize)
  }
}

/** A list may be long before it tells of a region. */
async function* whileWanted<T>(list: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T> {
  for await (const one of list) {
    signal.throwIfAborted()
    yield one
  }
}

/** The last block of an image may be short, and is one by itself. */
function* runsOf({ start, end, zero }: BlockRegion, blockSize: number): Generator<Blocks> {
  const maxSize = blockSize * (zero ? MAX_RUN : 1)
  for (let offset = start; offset < end;) {
    const rest = Math.min(maxSize, end - offset)
    const size = Math.min(blockSize, rest)
    const count = Math.floor(rest / size)
    yield { offset, size, count, zero }
    offset += size * count
  }
}

async function digestOf(
  blocks: Blocks,
  hasher: BlockHasher,
  { findsZeroes = false }: ChecksumOptions,
): Promise<BlockRun> {
  const { offset, size, zero } = blocks
  if (zero) return { ...blocks, digest: await hasher.zeroes(size) }
  const digest = await hasher.data(offset, size)
  return { ...blocks, digest, zero: findsZeroes && digest.equals(await hasher.zeroes(size)) }
}
