import { createRequire } from 'node:module'

interface PackageFile {
  readonly version: string
}

const require = createRequire(import.meta.url)

/** The package's version, as clients see it. The compiled file lies one level deeper. */
export const VERSION = (require('../../../package.json') as PackageFile).version
