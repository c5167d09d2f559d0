/**
 * Parameters of a request: query before matrix. What cannot be read counts as absent, what is unknown is
 * ignored: never a reason to refuse (transfer-api.md, 1.1).
 */
export type Parameters = Readonly<Record<string, string>>

/** The first of the same name wins, so that the query goes before the matrix parameters behind it. */
export function parseParameters(query: string): Parameters {
  const parameters = Object.create(null) as Record<string, string>
  for (const [name, value] of new URLSearchParams(query)) {
    if (!Object.hasOwn(parameters, name)) parameters[name] = value
  }
  return parameters
}

/** Present and empty is true. */
export function booleanOf(text: string | undefined): boolean | undefined {
  if (text === undefined) return undefined
  if (/^(true|t|yes|y|1|)$/i.test(text)) return true
  return /^(false|f|no|n|0)$/i.test(text) ? false : undefined
}

export function integerOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined
}

/** `disk.storage_domains,host`: names of links to inline, each with those to inline there. */
export interface Follow {
  readonly has: (name: string) => boolean
  readonly into: (name: string) => Follow
}

/** Deeper than any chain of links here. */
const MAX_FOLLOWED = 32

export function followOf(text: string | undefined): Follow {
  const paths = (text ?? '').split(',', MAX_FOLLOWED).map((path) => path.split('.').map(plain))
  return follow(paths)
}

function follow(paths: readonly (readonly string[])[]): Follow {
  return {
    has: (name) => paths.some(([first]) => first === plain(name)),
    into: (name) =>
      follow(paths.filter(([first]) => first === plain(name)).map(([, ...rest]) => rest)),
  }
}

/** Names match without case and underscores. */
function plain(name: string): string {
  return name.trim().toLowerCase().replaceAll('_', '')
}
