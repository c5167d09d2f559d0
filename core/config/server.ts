/**
 * The sections that every server of this project has: who it is, where it listens, what clients may use
 * up together. A program adds its own, see daemon/config.ts.
 */
import type { Report } from './load.js'
import { checkLogging, loggingSchema } from './logging.js'
import { boolean, choice, float, integer, socket, string, type ConfigOf } from './schema.js'
import { checkSignedTickets, signedTicketsSchema } from '../tickets/signed/config.js'
import { KiB } from '../units.js'

export const MAX_PORT = 65535

/** About 24 days: Node's timers count milliseconds in 31 bits and fire at once beyond. */
const MAX_SECONDS = 2_147_483

export const seconds = (spec: { default: number; min: number; description: string }) =>
  integer({ ...spec, max: MAX_SECONDS })

export const serverSchema = {
  daemon: {
    poll_interval: float({
      default: 1,
      min: 0,
      description: 'Accepted and not used: signals wake the daemon, nothing polls.',
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
      of: ['unix', 'tcp', 'tls'],
      default: 'unix',
      description:
        'tcp listens on the loopback address without authentication: every user of the host can ' +
        'then manage tickets. tls listens on host and port besides socket, for clients with a ' +
        'certificate.',
    }),
    socket: socket({ default: '/run/ovirt-imageio/sock', description: 'Address for unix.' }),
    host: string({ default: '::', description: 'Address for tls. :: is IPv6 and IPv4.' }),
    port: integer({
      default: -1,
      min: -1,
      max: MAX_PORT,
      description: 'Port for tcp and tls, where it is required; 0 takes a free one.',
    }),
    ca_file: string({
      default: '',
      description:
        'Who issues the certificates of clients (PEM), for tls, where it is required. Better an ' +
        'authority for nothing else.',
    }),
    allowed_clients: string({
      default: '',
      description:
        'Clients that may manage tickets, for tls, where it is required: common names or DNS ' +
        'names of their certificates, separated by spaces.',
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
      description:
        'Data connections of one client address (of IPv6, one /64 network), so that one cannot take them all.',
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
    max_bytes_per_second: integer({
      default: 0,
      min: 0,
      description:
        'Bytes of images per second that all transfers together send and receive; 0 is no limit. ' +
        'Tickets share it evenly, and may have a limit of their own.',
    }),
    idle_timeout: seconds({
      default: 60,
      min: 1,
      description: 'Seconds a connection that never showed a valid ticket may stay idle.',
    }),
  },
  ...signedTicketsSchema,
  ...loggingSchema,
  transport: {
    native: choice({
      of: ['auto', 'on', 'off'],
      default: 'auto',
      description:
        'Move bulk bodies on threads of the addon, past JavaScript (docs/transport.md). auto is on ' +
        'where the addon finds in Node what it needs.',
    }),
    threads: integer({
      default: 0,
      min: 0,
      max: 64,
      description:
        'Threads that encrypt and move bodies; 0 is one for each core, up to 8. More than there are ' +
        'cores are of no use.',
    }),
  },
} as const

export type ServerConfig = ConfigOf<typeof serverSchema>

/** What needs more than one option. */
export function checkServer(config: ServerConfig, report: Report): void {
  const { control, tls } = config
  for (const key of ['key_file', 'cert_file'] as const) {
    if (tls.enable && tls[key] === '') {
      report.fail('tls', key, 'must name a file while [tls] enable is on')
    }
  }
  if (tls.enable_tls1_1) report.warn('tls', 'enable_tls1_1', 'ignored, TLS 1.2 is the minimum')
  if (control.enable && control.transport === 'tcp' && control.port < 0) {
    report.fail('control', 'port', `must be from 0 to ${MAX_PORT} while transport is tcp`)
  }
  checkControlTls(config, report)
  checkSignedTickets(config, report)
  checkLogging(config, report)
}

function checkControlTls({ control, tls }: ServerConfig, report: Report): void {
  if (!control.enable || control.transport !== 'tls') return
  const fail = (key: string, reason: string): void => {
    report.fail('control', key, `${reason} while transport is tls`)
  }
  if (control.port < 0) fail('port', `must be from 0 to ${MAX_PORT}`)
  if (control.ca_file === '') fail('ca_file', 'must name a file')
  if (control.allowed_clients.trim() === '') fail('allowed_clients', 'must name clients')
  if (!tls.enable) report.fail('tls', 'enable', 'must be on while [control] transport is tls')
}

/** The effective configuration, without secrets, as JSON, sections in alphabetical order. */
export function showConfig(config: object): string {
  const sections = Object.entries(config).sort(([a], [b]) => (a < b ? -1 : 1))
  return `${JSON.stringify(Object.fromEntries(sections), undefined, 2)}\n`
}
