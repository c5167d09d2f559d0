/** GET /images/{id}/checksum and what it can do (images-api.md, 9; checksum.md). */
import { BadRequestError } from '../../core/http/errors.js'
import type { Exchange } from '../../core/http/exchange.js'
import type { Query } from '../../core/http/query.js'
import { MiB } from '../../core/units.js'
import {
  DIGEST_ALGORITHMS,
  checksumImage,
  digestSize,
  type ChecksumOptions,
  type DigestAlgorithm,
} from '../operations/checksum.js'
import { cutOnAbort } from '../../core/images/operate.js'
import { operate, useImage, watchOf } from './image.js'
import type { ImageServices, OpenedImage } from './image.js'
import { MANIFEST_TYPE, ManifestWriter } from './manifest.js'
import { requireId } from '../../core/images/requests.js'

const DEFAULT_ALGORITHM = 'blake2b'
const DEFAULT_BLOCK_SIZE = 4 * MiB
const MIN_BLOCK_SIZE = MiB
const MAX_BLOCK_SIZE = 16 * MiB
const BLOCK_SIZE_STEP = 4096

export function listAlgorithms(exchange: Exchange): void {
  exchange.sendJson({ algorithms: DIGEST_ALGORITHMS })
}

export async function getChecksum(exchange: Exchange, services: ImageServices): Promise<void> {
  requireId(exchange)
  const options = {
    algorithm: parseAlgorithm(exchange.query),
    blockSize: parseBlockSize(exchange.query),
  }
  const isManifest = parseManifest(exchange.query)
  const answer = isManifest ? sendManifest : sendChecksum
  await useImage(exchange, services, 'read', async (image) => {
    if (exchange.method === 'HEAD') {
      answerHead(exchange, options, isManifest)
      return
    }
    await services.checksums.use(() => answer(exchange, services, image, options))
  })
}

async function sendChecksum(
  exchange: Exchange,
  { buffers }: ImageServices,
  image: OpenedImage,
  options: ChecksumOptions,
): Promise<void> {
  const size = await sizeOf(image)
  const operation = { op: 'checksum', offset: 0, size, endsWithClient: true } as const
  let checksum = ''
  await operate(exchange, image, buffers, operation, async (context) => {
    checksum = await checksumImage(image.backend, size, options, context)
  })
  exchange.sendJson(summary(options, checksum))
}

/** Sends digests as they come; the connection is cut when the list cannot be finished. */
async function sendManifest(
  exchange: Exchange,
  services: ImageServices,
  image: OpenedImage,
  options: ChecksumOptions,
): Promise<void> {
  const size = await sizeOf(image)
  const watch = watchOf(image.ticket, services)
  const headers = { 'content-type': MANIFEST_TYPE }
  const sink = exchange.sink(200, headers, { watch, cut: () => exchange.cut() })
  const manifest = new ManifestWriter(sink)
  const operation = { op: 'checksum', offset: 0, size, endsWithClient: true } as const
  try {
    await operate(exchange, image, services.buffers, operation, (context) =>
      cutOnAbort(exchange, context.signal, async () => {
        const onBlocks = manifest.add.bind(manifest)
        const all = { ...options, findsZeroes: true, onBlocks }
        const checksum = await checksumImage(image.backend, size, all, context)
        await manifest.finish({ ...summary(options, checksum), size })
      }),
    )
    exchange.end()
  } finally {
    sink.release()
  }
}

/** Nothing is computed; the length of the answer is known all the same, that of a manifest is not. */
function answerHead(exchange: Exchange, options: ChecksumOptions, isManifest: boolean): void {
  if (isManifest) exchange.sendHead(200, { 'content-type': MANIFEST_TYPE })
  else exchange.sendJson(summary(options, '0'.repeat(2 * digestSize(options.algorithm))))
}

/** Never more than the ticket allows, like every other request on the image. */
async function sizeOf({ ticket, backend }: OpenedImage): Promise<number> {
  return Math.min(ticket.limit, await backend.size())
}

function summary({ algorithm, blockSize }: ChecksumOptions, checksum: string) {
  return { algorithm, block_size: blockSize, checksum }
}

function parseAlgorithm(query: Query): DigestAlgorithm {
  const wanted = query.get('algorithm') ?? DEFAULT_ALGORITHM
  const algorithm = DIGEST_ALGORITHMS.find((name) => name === wanted)
  if (algorithm !== undefined) return algorithm
  throw new BadRequestError(`algorithm must be one of ${DIGEST_ALGORITHMS.join(', ')}`)
}

function parseBlockSize(query: Query): number {
  const text = query.get('block_size') ?? String(DEFAULT_BLOCK_SIZE)
  const size = /^\d+$/.test(text) ? Number(text) : NaN
  const isInRange = size >= MIN_BLOCK_SIZE && size <= MAX_BLOCK_SIZE
  if (isInRange && size % BLOCK_SIZE_STEP === 0) return size
  throw new BadRequestError(
    `block_size must be a multiple of ${BLOCK_SIZE_STEP} from ${MIN_BLOCK_SIZE} to ${MAX_BLOCK_SIZE}`,
  )
}

function parseManifest(query: Query): boolean {
  const manifest = query.get('manifest') ?? 'n'
  if (manifest !== 'y' && manifest !== 'n') throw new BadRequestError('manifest must be y or n')
  return manifest === 'y'
}
