/** The option `database`: a file, or a URL with which there may be a password. */
import { isAbsolute } from 'node:path'

export function isPostgres(database: string): boolean {
  return /^postgres(ql)?:\/\//.test(database)
}

const HIDDEN = '***'

/**
 * Without password, also where it is no URL but was meant to be one: from the first colon that is not
 * of a scheme to the last @, and in a parameter.
 */
export function withoutPassword(database: string): string {
  if (isAbsolute(database)) return database
  return database
    .replace(/:(?!\/\/).*@/s, `:${HIDDEN}@`)
    .replace(/(password\s*=\s*)('(?:[^'\\]|\\.)*'|[^&\s]*)/gi, `$1${HIDDEN}`)
}
