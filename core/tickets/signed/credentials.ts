/** Where a request carries a token. */
export interface ShownToken {
  readonly token: string
  /** The transfer the path names, when the token came in a header beside it. */
  readonly transferId: string | undefined
}

/** Header, payload and signature; anything else may be an id that is not known. */
const COMPACT = /^[\w-]+\.[\w-]+\.[\w-]+$/

/**
 * `Authorization: Bearer TOKEN` for the path of its transfer, or the token as the id in the path. A
 * header of another scheme means nothing here.
 */
export function findToken(request: {
  readonly id: string
  header(name: string): string | undefined
}): ShownToken | undefined {
  const bearer = /^Bearer +(.*)$/i.exec(request.header('authorization') ?? '')?.[1]
  if (bearer !== undefined) return { token: bearer.trim(), transferId: request.id }
  return COMPACT.test(request.id) ? { token: request.id, transferId: undefined } : undefined
}
