/**
 * Every option of the transfer service: type, default, range and reason. Sections [host_NAME] and
 * [storage_domain_NAME] may be many. docs/transfers.md explains them at length.
 */
import { isAbsolute } from 'node:path'
import { loggingSchema } from '../core/config/logging.js'
import {
  boolean,
  float,
  integer,
  string,
  type ConfigOf,
  type Schema,
} from '../core/config/schema.js'
import { MAX_PORT, seconds, serverSchema } from '../core/config/server.js'
import { isPostgres, withoutPassword } from './database.js'
import {
  controlUrl,
  givenPath,
  id,
  label,
  path,
  peerSocket,
  text,
  url,
  userName,
} from './option-kinds.js'

const transfersSchema = {
  host: text('::', 'Address or name to listen on. :: is IPv6 and IPv4.'),
  port: integer({
    default: 54325,
    min: 0,
    max: MAX_PORT,
    description: 'TCP port; 0 takes a free one.',
  }),
  instance: label(
    'transfers',
    'Name of this instance among those with one database; each needs its own. A process that is ' +
      'started with the name of another takes over from it at once.',
  ),
  database: string({
    default: '/var/lib/ovirt-imageio/transfers.sqlite',
    allowed: 'an absolute path, or a URL postgresql://…',
    accept: (written) => isAbsolute(written) || isPostgres(written),
    redact: withoutPassword,
    description:
      'File of the embedded database, or URL of a PostgreSQL database, which several instances ' +
      'may share. It knows ids of tickets: whoever can read it can read images.',
  }),
  run_dir: givenPath('/run/ovirt-imageio-transfers', 'Directory of the sockets of NBD servers.'),
  group: text(
    '',
    'Group, by name or id, that may read and write volumes and sockets of NBD servers: the ' +
      "daemon's, when it runs as another user. The service's user must be a member. Empty is its own group.",
  ),
  storage_dir: path(
    '/var/lib/ovirt-imageio/images',
    'Directory of the storage domain named default; empty when there are only others.',
  ),
  username: userName(
    'admin@internal',
    'User whose password is asked for and stored where none is named.',
  ),
  password_file: givenPath('/etc/ovirt-imageio/passwords', 'Users and hashes of their passwords.'),
  host_name: text('', 'Name of the host of this machine; empty is its host name.'),
  host_id: id('Id of the host of this machine; empty is made from its name.'),
  hardware_id: text('', 'What clients that run on this machine look for: /etc/vdsm/vdsm.id.'),
  control_socket: peerSocket(
    '/run/ovirt-imageio/sock',
    'Control socket of the daemon of this machine.',
  ),
  local_host: boolean({
    default: true,
    description: 'There is a daemon on this machine; off when there are only [host_NAME] sections.',
  }),
  transfer_url: url(
    'https://host:54322',
    'Where clients find the daemon of this machine; empty is the host name and port 54322.',
  ),
  proxy_control_socket: peerSocket('', 'Control socket of the proxy, if it is on this machine.'),
  proxy_control_url: controlUrl('Control service of the proxy, if it is elsewhere.'),
  proxy_url: url('https://host:54323', 'Where clients find the proxy; required with a proxy.'),
  control_ca_file: path('', 'Trust anchors (PEM) for control_url; empty is [tls] ca_file.'),
  control_cert_file: path(
    '',
    'Certificate (PEM) shown to control services; empty is [tls] cert_file.',
  ),
  control_key_file: path('', 'Private key (PEM) of control_cert_file; empty is [tls] key_file.'),
  control_timeout: seconds({
    default: 10,
    min: 1,
    description: 'Seconds a control service may take, but for removal of a ticket.',
  }),
  remove_timeout: seconds({
    default: 70,
    min: 1,
    description:
      'Seconds the removal of a ticket may take. Daemons wait up to 60 for requests to end.',
  }),
  host_check_interval: seconds({
    default: 10,
    min: 1,
    description: 'Seconds between two looks whether hosts and storage domains are there.',
  }),
  poll_interval: float({
    default: 1,
    min: 0.01,
    max: 60,
    description: 'Seconds between two looks at a transfer. Actions of clients are not waited for.',
  }),
  ticket_timeout: seconds({
    default: 300,
    min: 10,
    description: 'Lifetime of tickets in seconds.',
  }),
  ticket_renewal: seconds({
    default: 240,
    min: 1,
    description: 'A ticket with less than so many seconds left is renewed.',
  }),
  unreachable_grace: seconds({
    default: 60,
    min: 0,
    description: 'Seconds a host may be out of reach before transfers are paused or cancelled.',
  }),
  proxy_check_interval: seconds({
    default: 10,
    min: 1,
    description: 'Seconds between two looks whether the proxy still has a ticket.',
  }),
  success_retention: seconds({
    default: 900,
    min: 1,
    description: 'Seconds a transfer that succeeded can be looked at.',
  }),
  failure_retention: seconds({
    default: 1800,
    min: 1,
    description: 'Seconds a transfer that failed or was cancelled can be looked at.',
  }),
  cleanup_interval: seconds({
    default: 600,
    min: 1,
    description: 'Seconds between two looks for transfers to forget.',
  }),
  pause_log_interval: seconds({
    default: 1800,
    min: 1,
    description: 'Seconds between two lines of the log about a paused transfer.',
  }),
  database_wait: seconds({
    default: 30,
    min: 0,
    description: 'Seconds to wait at the start for a PostgreSQL server that cannot be reached.',
  }),
  lease_timeout: seconds({
    default: 60,
    min: 1,
    description:
      'Seconds after which another instance takes over from one that is gone; at least 15, and three ' +
      'times control_timeout.',
  }),
  max_verifications: integer({
    default: 0,
    min: 0,
    max: 256,
    description:
      'Verifications of uploads at once; others wait in the order of their finalize. 0 is one for each processor.',
  }),
  max_connections: integer({
    default: 1024,
    min: 1,
    description:
      'Connections of clients of the API; bounds descriptors and memory. A few more are told so with 503.',
  }),
  max_connections_per_address: integer({
    default: 256,
    min: 1,
    description:
      'Connections of one client address (of IPv6, one /64 network). Behind a reverse proxy all clients have one address: raise it, and those that follow, to what is allowed in all.',
  }),
  max_waiting: integer({
    default: 512,
    min: 0,
    description: 'Requests that wait for a change (`?wait=`) at once; more get 503.',
  }),
  max_waiting_per_address: integer({
    default: 96,
    min: 0,
    description: 'Those of one address; with its event streams fewer than its connections.',
  }),
  max_event_streams: integer({
    default: 256,
    min: 0,
    description: 'Streams of events at once; more get 503.',
  }),
  max_event_streams_per_address: integer({
    default: 96,
    min: 0,
    description: 'Those of one address.',
  }),
  delete_invalid_disks: boolean({
    default: false,
    description:
      'Remove a disk whose upload was refused, as an engine does, instead of keeping it illegal.',
  }),
  protect_existing_disks: boolean({
    default: false,
    description: 'Keep, illegal, a disk that held an image before an upload that was cancelled.',
  }),
} as const

export const hostSchema = {
  id: id('Id of the host; empty is made from the name of the section.'),
  address: text('', 'Its address, shown to clients; empty is that of transfer_url.'),
  hardware_id: text('', 'What clients that run on it look for.'),
  control_socket: peerSocket('', 'Control socket of its daemon, if it is on this machine.'),
  control_url: controlUrl('Control service of its daemon, over TLS.'),
  transfer_url: url('https://host:54322', 'Where clients find its daemon. Required.'),
} as const

export const domainSchema = {
  id: id('Id of the storage domain; empty is made from the name of the section.'),
  path: path('', 'Its directory. Required.'),
} as const

export const schema = {
  daemon: {
    systemd_enable: serverSchema.daemon.systemd_enable,
    shutdown_timeout: serverSchema.daemon.shutdown_timeout,
  },
  tls: {
    enable: serverSchema.tls.enable,
    key_file: serverSchema.tls.key_file,
    cert_file: serverSchema.tls.cert_file,
    ca_file: serverSchema.tls.ca_file,
  },
  transfers: transfersSchema,
  ...loggingSchema,
} as const

/** With the sections that may be there more than once. */
export const allOptions: Schema = {
  ...schema,
  host_NAME: hostSchema,
  storage_domain_NAME: domainSchema,
}

export type HostSection = ConfigOf<{ host: typeof hostSchema }>['host']
export type DomainSection = ConfigOf<{ domain: typeof domainSchema }>['domain']

/** Without the sections that may be there more than once. */
export type CommonConfig = ConfigOf<typeof schema>

export type TransfersConfig = CommonConfig & {
  readonly [name: `host_${string}`]: HostSection
  readonly [name: `storage_domain_${string}`]: DomainSection
}

/** The storage domain of storage_dir. */
export const DEFAULT_DOMAIN = 'default'

export const HOST = 'host_'
export const DOMAIN = 'storage_domain_'

/** The sections for more hosts, with the name of each. */
export function hostSections(config: object): [string, HostSection][] {
  return sectionsOf<HostSection>(config, HOST)
}

/** The sections for more storage domains, with the name of each. */
export function domainSections(config: object): [string, DomainSection][] {
  return sectionsOf<DomainSection>(config, DOMAIN)
}

function sectionsOf<T>(config: object, prefix: string): [string, T][] {
  return Object.entries(config)
    .filter(([name]) => name.startsWith(prefix))
    .map(([name, section]) => [name.slice(prefix.length), section as T])
}
