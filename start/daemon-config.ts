/** The configuration of a daemon that serves one user on one machine. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Pki } from './pki.js'

export interface DaemonSettings {
  readonly pki: Pki
  readonly host: string
  readonly port: number
  readonly isVerbose: boolean
  /** Where it records what is known of changes; else in the directory of the run. */
  readonly recordsDir?: string
}

export interface DaemonPaths {
  readonly confDir: string
  readonly controlSocket: string
  readonly dataSocket: string
}

/** Writes into `runDir`, which exists and is private. */
export async function writeDaemonConfig(
  runDir: string,
  { pki, host, port, isVerbose, recordsDir = runDir }: DaemonSettings,
): Promise<DaemonPaths> {
  const paths = {
    confDir: runDir,
    controlSocket: join(runDir, 'control.sock'),
    dataSocket: join(runDir, 'data.sock'),
  }
  const config = `[daemon]
systemd_enable = false
drop_privileges = false
run_dir = ${recordsDir}
# Whoever presses Ctrl-C does not want to wait for a forgotten download.
shutdown_timeout = 2

[tls]
enable = true
key_file = ${pki.keyFile}
cert_file = ${pki.certFile}
ca_file = ${pki.caFile}

[remote]
host = ${host}
port = ${port}

[local]
enable = true
socket = ${paths.dataSocket}

[control]
enable = true
transport = unix
socket = ${paths.controlSocket}
remove_timeout = 60

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
  await mkdir(join(runDir, 'conf.d'), { mode: 0o700 })
  // Files of the vendor take part, and a later name wins.
  await writeFile(join(runDir, 'conf.d', 'zzz-start.conf'), config, { mode: 0o600 })
  return paths
}
