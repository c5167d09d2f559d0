/** Digest fields (RFC 9530): whether a body arrived as it was sent, whatever lies in between. */
import { BadRequestError } from './errors.js'
import { parseDictionary } from './structured-fields.js'

/** The algorithms of RFC 9530 that are fit against more than accidents; others are ignored. */
export type WireAlgorithm = 'sha-256' | 'sha-512'

const SIZES: ReadonlyMap<string, { algorithm: WireAlgorithm; bytes: number }> = new Map([
  ['sha-256', { algorithm: 'sha-256', bytes: 32 }],
  ['sha-512', { algorithm: 'sha-512', bytes: 64 }],
])

export interface ExpectedDigest {
  readonly algorithm: WireAlgorithm
  readonly digest: Buffer
}

/** Content-Digest of a request. Throws BadRequestError: who sends one wants it verified. */
export function parseContentDigest(header: string | undefined): ExpectedDigest[] {
  if (header === undefined) return []
  const members = parseDictionary(header)
  if (members === undefined) throw new BadRequestError('Content-Digest is malformed')
  const expected: ExpectedDigest[] = []
  for (const [name, digest] of members) {
    const known = SIZES.get(name)
    if (known === undefined) continue
    const { algorithm, bytes } = known
    if (!Buffer.isBuffer(digest) || digest.length !== bytes) {
      throw new BadRequestError(`${algorithm} in Content-Digest is not ${bytes} bytes in base64`)
    }
    expected.push({ algorithm, digest })
  }
  return expected
}

/** The algorithm a Want-Content-Digest likes best, if we have it. A malformed wish is none. */
export function wantedDigest(header: string | undefined): WireAlgorithm | undefined {
  if (header === undefined) return undefined
  let best: WireAlgorithm | undefined
  let weight = 0
  for (const [name, preference] of parseDictionary(header) ?? []) {
    const known = SIZES.get(name)
    if (known === undefined || typeof preference !== 'number') continue
    if (preference <= weight || preference > 10 || !Number.isInteger(preference)) continue
    best = known.algorithm
    weight = preference
  }
  return best
}

export function contentDigest(algorithm: WireAlgorithm, digest: Buffer): string {
  return `${algorithm}=:${digest.toString('base64')}:`
}
