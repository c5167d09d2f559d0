/**
 * The query of a request target: form-decoded, blank values kept, the last of repeated keys wins,
 * case sensitive (images-api.md, 2.7).
 */
export type Query = ReadonlyMap<string, string>

export function parseQuery(target: string): Query {
  const mark = target.indexOf('?')
  return new Map(mark < 0 ? [] : new URLSearchParams(target.slice(mark + 1)))
}
