/**
 * Every option of the proxy: type, default, range and reason. The same files as the daemon's; sections
 * of storage are of no use here. docs/proxy.md explains what is the proxy's own.
 */
import { loadConfig, VENDOR_DIR, type LoadedConfig, type Report } from '../core/config/load.js'
import { boolean, integer, list, string, type ConfigOf } from '../core/config/schema.js'
import { checkServer, seconds, serverSchema } from '../core/config/server.js'
import { GiB, MiB } from '../core/units.js'
import { parsePattern, splitPatterns } from './allowed-daemons.js'

export const schema = {
  ...serverSchema,
  backend_http: {
    ca_file: string({
      default: '',
      description:
        'Trust anchors (PEM) for daemons, instead of the system store; empty is [tls] ca_file, ' +
        'and if that is empty, too, the system store.',
    }),
    cert_file: string({
      default: '',
      description: 'Certificate (PEM) shown to daemons that ask for one; needs key_file.',
    }),
    key_file: string({ default: '', description: 'Private key (PEM) of cert_file.' }),
    buffer_size: integer({
      default: 8 * MiB,
      min: 0,
      description: 'Accepted and not used: see buffer_memory in [limits].',
    }),
  },
  limits: {
    ...serverSchema.limits,
    buffer_memory: integer({
      default: GiB,
      min: MiB,
      description:
        'Bytes of buffers of all transfers together: one of 1 MiB (256 KiB without the native ' +
        'front) for each, and another while there are some to spare.',
    }),
    buffer_wait_timeout: seconds({
      default: 30,
      min: 1,
      description: 'Seconds a transfer waits for a buffer before it is answered with 503.',
    }),
  },
  proxy: {
    allowed_daemons: list({
      default: '*:54322',
      allowed: 'patterns host or host:port, separated by blanks or commas',
      split: splitPatterns,
      accept: (word) => parsePattern(word) !== undefined,
      description:
        'Daemons that tickets may name. A second fence behind the control service: who can misuse ' +
        'that one still reaches nothing else from here.',
    }),
    allow_http: boolean({
      default: false,
      description: 'Also http:// URLs, where tickets and images travel in the clear. For tests.',
    }),
    use_local_socket: boolean({
      default: true,
      description: "Use the Unix socket of a daemon on the proxy's own host: no TLS to pay for.",
    }),
    max_connections_per_ticket: integer({
      default: 32,
      min: 1,
      description:
        'Connections to a daemon that requests of one ticket use at a time, so that one transfer ' +
        "cannot take all that the daemon grants to the proxy's address.",
    }),
    connect_timeout: seconds({
      default: 10,
      min: 1,
      description: 'Seconds for connecting to a daemon, TLS included.',
    }),
    response_timeout: seconds({
      default: 60,
      min: 1,
      description: 'Seconds a daemon may take to begin an answer, or to take or give more bytes.',
    }),
    work_timeout: seconds({
      default: 3600,
      min: 1,
      description:
        'The same for answers that come only after work of unknown length: flush, zero, checksum.',
    }),
  },
} as const

export type ProxyConfig = ConfigOf<typeof schema>

/** Reads the files of `dir`/conf.d and of the vendor; throws ConfigError. */
export function loadProxyConfig(dir: string, vendorDir = VENDOR_DIR): LoadedConfig<ProxyConfig> {
  return loadConfig(schema, { dir, vendorDir, check })
}

function check(config: ProxyConfig, report: Report): void {
  checkServer(config, report)
  const { cert_file, key_file } = config.backend_http
  if ((cert_file === '') !== (key_file === '')) {
    const missing = cert_file === '' ? 'cert_file' : 'key_file'
    report.fail('backend_http', missing, 'cert_file and key_file go together')
  }
  checkDaemons(config.proxy, report)
}

/** What is permitted, but hardly meant. */
function checkDaemons(
  { allow_http, allowed_daemons }: ProxyConfig['proxy'],
  { warn }: Report,
): void {
  const patterns = splitPatterns(allowed_daemons)
  if (patterns.length === 0) {
    warn('proxy', 'allowed_daemons', 'is empty, so no ticket can be used')
  }
  if (patterns.includes('*:*')) {
    const reason = 'lets who can install or sign tickets reach any host and port from here'
    warn('proxy', 'allowed_daemons', `*:* ${reason}`)
  }
  if (allow_http) {
    warn(
      'proxy',
      'allow_http',
      'lets tickets and images travel in the clear, to hosts nobody proved',
    )
  }
}
