/**
 * Every option of the daemon: type, default, range and reason. The loaded object has the names of
 * the files, so it is also what --show-config prints. docs/configuration.md explains them at length.
 */
import { isAbsolute, normalize } from 'node:path'
import { loadConfig, VENDOR_DIR, type LoadedConfig, type Report } from '../core/config/load.js'
import { checkLogging, logSettings, loggingSchema } from '../core/config/logging.js'
import {
  boolean,
  choice,
  float,
  integer,
  socket,
  string,
  type ConfigOf,
} from '../core/config/schema.js'
import { checkSignedTickets, signedTicketsSchema } from '../core/tickets/signed/config.js'
import { GiB, KiB, MiB } from '../core/units.js'

export { logSettings }

const MAX_PORT = 65535

/** About 24 days: Node's timers count milliseconds in 31 bits and fire at once beyond. */
const MAX_SECONDS = 2_147_483

const seconds = (spec: { default: number; min: number; description: string }) =>
  integer({ ...spec, max: MAX_SECONDS })

export const schema = {
  daemon: {
    poll_interval: float({
      default: 1,
      min: 0,
      description: 'Accepted and not used: signals wake the daemon, nothing polls.',
    }),
    max_connections: integer({
      default: 8,
      min: 1,
      description:
        'Reported as max_readers and max_writers of files, devices and NBD exports. More than 8 ' +
        'parallel connections to one image seldom move more bytes.',
    }),
    inactivity_timeout: seconds({
      default: 60,
      min: 1,
      description:
        'Seconds without a byte before a connection is cut, for tickets without their own.',
    }),
    run_dir: string({
      default: '/run/ovirt-imageio',
      description: 'Directory of sockets, given to the user when privileges are dropped.',
    }),
    drop_privileges: boolean({
      default: true,
      description: 'When started as root, become user_name and group_name once everything is open.',
    }),
    user_name: string({ default: 'ovirtimg', description: 'User the daemon serves as.' }),
    group_name: string({ default: 'ovirtimg', description: 'Primary group the daemon serves as.' }),
    systemd_enable: boolean({
      default: true,
      description: 'Tell the service manager when all services listen, and feed its watchdog.',
    }),
    shutdown_timeout: seconds({
      default: 30,
      min: 0,
      description: 'Seconds running requests may take to end after SIGTERM before they are cut.',
    }),
  },
  tls: {
    enable: boolean({ default: true, description: 'TLS on the remote service.' }),
    key_file: string({ default: '', description: 'Private key (PEM). Required with TLS.' }),
    cert_file: string({
      default: '',
      description: 'Certificate (PEM), with its chain if it has one. Required with TLS.',
    }),
    ca_file: string({
      default: '',
      description:
        'Trust anchors (PEM) for connections to other daemons; empty is the system store. ' +
        'Clients are not asked for certificates.',
    }),
    enable_tls1_1: boolean({
      default: false,
      description: 'Accepted and ignored with a warning: TLS 1.2 is always the minimum.',
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
      description: 'Upper bound of memory per relayed operation.',
    }),
    ca_file: string({
      default: '',
      description: 'Trust anchors for remote daemons; empty is tls.ca_file.',
    }),
  },
  remote: {
    host: string({
      default: '::',
      description:
        'Address or name to listen on. :: is IPv6 and IPv4, 0.0.0.0 and empty are IPv4 only.',
    }),
    port: integer({
      default: 54322,
      min: 0,
      max: MAX_PORT,
      description: 'TCP port; 0 takes a free one.',
    }),
  },
  local: {
    enable: boolean({
      default: true,
      description: 'Serve images on a Unix socket, faster for clients on this host.',
    }),
    socket: socket({
      default: '\0/org/ovirt/imageio',
      description: 'Its address; empty is a random abstract name, which OPTIONS tells clients.',
    }),
  },
  control: {
    enable: boolean({ default: true, description: 'The service that manages tickets.' }),
    transport: choice({
      of: ['unix', 'tcp'],
      default: 'unix',
      description:
        'tcp listens on the loopback address without authentication: every user of the host can ' +
        'then manage tickets.',
    }),
    socket: socket({ default: '/run/ovirt-imageio/sock', description: 'Address for unix.' }),
    port: integer({
      default: -1,
      min: -1,
      max: MAX_PORT,
      description: 'Port for tcp, where it is required; 0 takes a free one.',
    }),
    prefer_ipv4: boolean({
      default: true,
      description: 'Which loopback address tcp uses when localhost has two.',
    }),
    remove_timeout: seconds({
      default: 60,
      min: 0,
      description: 'Seconds DELETE waits for running operations; 0 answers at once.',
    }),
    expired_ticket_grace: seconds({
      default: 3600,
      min: 0,
      description:
        'Seconds an expired, unused ticket stays listed, so that its owner can still read its ' +
        'progress; then it is forgotten.',
    }),
  },
  limits: {
    max_connections: integer({
      default: 1024,
      min: 1,
      description: 'Data connections over TCP and Unix together; bounds descriptors and memory.',
    }),
    max_connections_per_address: integer({
      default: 512,
      min: 1,
      description: 'Data connections of one client address, so that one cannot take them all.',
    }),
    header_timeout: seconds({
      default: 60,
      min: 1,
      description: 'Seconds a client may take to send the header of a request.',
    }),
    handshake_timeout: seconds({
      default: 20,
      min: 1,
      description: 'Seconds a client may take for the TLS handshake.',
    }),
    min_body_rate: integer({
      default: KiB,
      min: 0,
      description:
        'Bytes per second a body must move, averaged over the inactivity timeout; 0 is off. One ' +
        'byte a minute would hold a backend for ever.',
    }),
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
    idle_timeout: seconds({
      default: 60,
      min: 1,
      description: 'Seconds a connection that never showed a valid ticket may stay idle.',
    }),
  },
  profile: {
    filename: string({
      default: '/run/ovirt-imageio/profile',
      description: 'Accepted and not used: there is no /profile/, use the profiler of Node.',
    }),
  },
  signed_tickets: {
    ...signedTicketsSchema.signed_tickets,
    allow_nbd: boolean({
      default: false,
      description:
        'Let tokens name nbd: URLs, which lead to any host and socket the daemon can reach.',
    }),
  },
  ...loggingSchema,
} as const

export type DaemonConfig = ConfigOf<typeof schema>

/** Reads the files of `dir`/conf.d and of the vendor; throws ConfigError. */
export function loadDaemonConfig(dir: string, vendorDir = VENDOR_DIR): LoadedConfig<DaemonConfig> {
  return loadConfig(schema, { dir, vendorDir, check })
}

/** The effective configuration as JSON, sections in alphabetical order. */
export function showConfig(config: DaemonConfig): string {
  const sections = Object.entries(config).sort(([a], [b]) => (a < b ? -1 : 1))
  return `${JSON.stringify(Object.fromEntries(sections), undefined, 2)}\n`
}

/** The directories of backend_file.allowed_paths; empty means anything is allowed. */
export function splitPaths(text: string): string[] {
  const paths = text.split(':').map((path) => path.trim())
  return paths.filter((path) => path !== '').map((path) => normalize(path).replace(/(?<=.)\/$/, ''))
}

function check(config: DaemonConfig, report: Report): void {
  const { control, limits, tls } = config
  for (const key of ['key_file', 'cert_file'] as const) {
    if (tls.enable && tls[key] === '') {
      report.fail('tls', key, 'must name a file while [tls] enable is on')
    }
  }
  if (tls.enable_tls1_1) report.warn('tls', 'enable_tls1_1', 'ignored, TLS 1.2 is the minimum')
  if (control.enable && control.transport === 'tcp' && control.port < 0) {
    report.fail('control', 'port', `must be from 0 to ${MAX_PORT} while transport is tcp`)
  }
  for (const section of ['backend_file', 'backend_nbd', 'backend_http'] as const) {
    if (limits.buffer_memory < config[section].buffer_size) {
      report.fail('limits', 'buffer_memory', `must hold at least one [${section}] buffer_size`)
    }
  }
  checkSignedTickets(config, report)
  if (config.signed_tickets.enable && splitPaths(config.backend_file.allowed_paths).length === 0) {
    // Who signs need not be on this host, and must not find out what else is.
    const reason = 'must name directories while [signed_tickets] enable is on (/ is any)'
    report.fail('backend_file', 'allowed_paths', reason)
  }
  checkLogging(config, report)
}
