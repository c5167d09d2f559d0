/**
 * Every option of the daemon: type, default, range and reason. The loaded object has the names of
 * the files, so it is also what --show-config prints. docs/configuration.md explains them at length.
 */
import { isAbsolute, normalize } from 'node:path'
import { loadConfig, VENDOR_DIR, type LoadedConfig, type Report } from '../core/config/load.js'
import { boolean, integer, string, type ConfigOf } from '../core/config/schema.js'
import { checkServer, seconds, serverSchema } from '../core/config/server.js'
import { GiB, KiB, MiB } from '../core/units.js'

export const schema = {
  ...serverSchema,
  daemon: {
    ...serverSchema.daemon,
    max_connections: integer({
      default: 8,
      min: 1,
      description:
        'Reported as max_readers and max_writers of files, devices and NBD exports. More than 8 ' +
        'parallel connections to one image seldom move more bytes.',
    }),
  },
  backend_file: {
    buffer_size: integer({
      default: 8 * MiB,
      min: 8 * KiB,
      max: 128 * MiB,
      multipleOf: 4 * KiB,
      description:
        'Upper bound of I/O memory per operation. Direct I/O moves whole 4 KiB blocks, and with ' +
        'less than two of them nothing overlaps.',
    }),
    allowed_paths: string({
      default: '',
      allowed: 'absolute directories separated by colons',
      accept: (text) => splitPaths(text).every(isAbsolute),
      description:
        'Directories whose files and devices tickets may name, separated by colons; empty is any. ' +
        'A second fence behind the control socket.',
    }),
  },
  backend_nbd: {
    buffer_size: integer({
      default: 8 * MiB,
      min: 4 * KiB,
      max: 32 * MiB,
      description: 'Upper bound of one request to the server; qemu refuses more than 32 MiB.',
    }),
    connect_timeout: seconds({
      default: 10,
      min: 1,
      description: 'Seconds for connecting to an NBD server and choosing the export.',
    }),
    operation_timeout: seconds({
      default: 60,
      min: 1,
      description:
        'Seconds an NBD server may take for one request. After that the connection is given up.',
    }),
    ca_file: string({
      default: '',
      description: 'Trust anchors (PEM) for nbds; empty is tls.ca_file, else the system store.',
    }),
  },
  backend_http: {
    buffer_size: integer({
      default: 8 * MiB,
      min: 4 * KiB,
      max: 128 * MiB,
      description: 'Accepted and not used: relaying is what the proxy does.',
    }),
    ca_file: string({
      default: '',
      description: 'Trust anchors for remote daemons; empty is tls.ca_file.',
    }),
  },
  limits: {
    ...serverSchema.limits,
    buffer_memory: integer({
      default: GiB,
      min: 16 * MiB,
      description: 'Bytes of I/O buffers of all operations together.',
    }),
    buffer_wait_timeout: seconds({
      default: 30,
      min: 1,
      description: 'Seconds an operation waits for a buffer before it is answered with 503.',
    }),
    max_checksums: integer({
      default: 4,
      min: 1,
      description:
        'Checksums at a time; one more is answered with 503. Each uses all cores, so more are no ' +
        'faster, and they read whole images.',
    }),
  },
  profile: {
    filename: string({
      default: '/run/ovirt-imageio/profile',
      description: 'Accepted and not used: there is no /profile/, use the profiler of Node.',
    }),
  },
  signed_tickets: {
    ...serverSchema.signed_tickets,
    allow_nbd: boolean({
      default: false,
      description:
        'Let tokens name nbd: URLs, which lead to any host and socket the daemon can reach.',
    }),
  },
} as const

export type DaemonConfig = ConfigOf<typeof schema>

/** Reads the files of `dir`/conf.d and of the vendor; throws ConfigError. */
export function loadDaemonConfig(dir: string, vendorDir = VENDOR_DIR): LoadedConfig<DaemonConfig> {
  return loadConfig(schema, { dir, vendorDir, check })
}

/** The directories of backend_file.allowed_paths; empty means anything is allowed. */
export function splitPaths(text: string): string[] {
  const paths = text.split(':').map((path) => path.trim())
  return paths.filter((path) => path !== '').map((path) => normalize(path).replace(/(?<=.)\/$/, ''))
}

function check(config: DaemonConfig, report: Report): void {
  const { limits } = config
  checkServer(config, report)
  for (const section of ['backend_file', 'backend_nbd'] as const) {
    if (limits.buffer_memory < config[section].buffer_size) {
      report.fail('limits', 'buffer_memory', `must hold at least one [${section}] buffer_size`)
    }
  }
  if (config.signed_tickets.enable && splitPaths(config.backend_file.allowed_paths).length === 0) {
    // Who signs need not be on this host, and must not find out what else is.
    const reason = 'must name directories while [signed_tickets] enable is on (/ is any)'
    report.fail('backend_file', 'allowed_paths', reason)
  }
}
