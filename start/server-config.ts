/** What the configurations of proxy and transfer service have in common. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Pki } from './pki.js'

export interface CommonSettings {
  readonly pki: Pki
  readonly isVerbose: boolean
}

/** Sections for TLS, and for a log that we read. */
export function commonSections({ pki, isVerbose }: CommonSettings): string {
  return `[tls]
enable = true
key_file = ${pki.keyFile}
cert_file = ${pki.certFile}
ca_file = ${pki.caFile}

[log]
format = pretty

[handlers]
keys = stderr

[handler_stderr]
level = DEBUG

[logger_root]
handlers = stderr
level = ${isVerbose ? 'DEBUG' : 'INFO'}
`
}

export async function writeConfig(confDir: string, config: string): Promise<void> {
  await mkdir(join(confDir, 'conf.d'), { recursive: true, mode: 0o700 })
  // Files of the vendor take part, and a later name wins.
  await writeFile(join(confDir, 'conf.d', 'zzz-start.conf'), config, { mode: 0o600 })
}
