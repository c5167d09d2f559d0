/** Which of the two forms a client wants (RFC 9110, 12.5.1). XML is the older, and what is meant by default. */
import { FaultError } from '../fault.js'

export type Media = 'xml' | 'json'

export const CONTENT_TYPES: Readonly<Record<Media, string>> = {
  xml: 'application/xml;charset=UTF-8',
  json: 'application/json',
}

/** In the order of preference among equals. */
const RANGES: readonly (readonly [Media, readonly string[]])[] = [
  ['xml', ['application/xml', 'text/xml', 'application/*', 'text/*', '*/*']],
  ['json', ['application/json', 'text/json', 'application/*', 'text/*', '*/*']],
]

/** Undefined when neither will do. */
export function mediaFor(accept: string | undefined): Media | undefined {
  if (accept === undefined || accept.trim() === '') return 'xml'
  const wanted = new Map<string, number>()
  for (const part of accept.split(',')) {
    const [range = '', ...parameters] = part.split(';').map((text) => text.trim().toLowerCase())
    const quality = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2) ?? '1'
    wanted.set(range, /^[01](\.\d*)?$/.test(quality) ? Number(quality) : 1)
  }
  let best: Media | undefined
  let bestQuality = 0
  for (const [media, ranges] of RANGES) {
    // The most specific range counts, even if it forbids what a wider one allows.
    const quality = wanted.get(ranges.find((range) => wanted.has(range)) ?? '') ?? 0
    if (quality > bestQuality) [best, bestQuality] = [media, quality]
  }
  return best
}

export function checkAcceptable(accept: string | undefined): void {
  if (mediaFor(accept) !== undefined) return
  throw new FaultError(
    406,
    'Operation Failed',
    'Answers are application/xml or application/json; accept one of them',
  )
}
