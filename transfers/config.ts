/** Files of the transfer service, read, and whether their options fit together. */
import { hostname } from 'node:os'
import {
  loadConfig,
  sectionNames,
  VENDOR_DIR,
  type LoadedConfig,
  type Report,
} from '../core/config/load.js'
import { checkLogging } from '../core/config/logging.js'
import type { SectionSchema } from '../core/config/schema.js'
import { reportDuplicates, type Named } from './duplicates.js'
import {
  DEFAULT_DOMAIN,
  DOMAIN,
  domainSchema,
  domainSections,
  HOST,
  hostSchema,
  hostSections,
  schema,
  type CommonConfig,
  type TransfersConfig,
} from './options.js'

/** Not the daemon's: certificate, log and user are each one's own. */
export const TRANSFERS_CONFIG_DIR = '/etc/ovirt-imageio-transfers'

/** Reads the files of `dir`/conf.d and of the vendor; throws ConfigError. */
export function loadTransfersConfig(
  dir: string,
  vendorDir = VENDOR_DIR,
): LoadedConfig<TransfersConfig> {
  const more: Record<string, SectionSchema> = {}
  for (const name of sectionNames(dir, vendorDir)) {
    if (name.startsWith(HOST)) more[name] = hostSchema
    if (name.startsWith(DOMAIN)) more[name] = domainSchema
  }
  const loaded = loadConfig({ ...schema, ...more }, { dir, vendorDir, check })
  return { ...loaded, config: loaded.config }
}

/** It is renewed by a process that may be busy. */
const MIN_LEASE_SECONDS = 15

function check(config: CommonConfig, report: Report): void {
  const { tls, transfers } = config
  checkLogging(config, report)
  for (const key of ['key_file', 'cert_file'] as const) {
    if (tls.enable && tls[key] === '') {
      report.fail('tls', key, 'must name a file while [tls] enable is on')
    }
  }
  const { ticket_renewal, ticket_timeout, lease_timeout, control_timeout } = transfers
  if (ticket_renewal >= ticket_timeout) {
    const reason = `must be less than ticket_timeout, which is ${ticket_timeout}`
    report.fail('transfers', 'ticket_renewal', reason, 'ticket_timeout')
  }
  const leastLease = Math.max(MIN_LEASE_SECONDS, 3 * control_timeout)
  if (lease_timeout < leastLease) {
    const why = leastLease > MIN_LEASE_SECONDS ? ', three times control_timeout' : ''
    const reason = `must be at least ${leastLease}${why}`
    report.fail('transfers', 'lease_timeout', reason, 'control_timeout')
  }
  checkLimits(transfers, report)
  const { proxy_control_socket, proxy_control_url, proxy_url } = transfers
  if (proxy_control_socket !== '' && proxy_control_url !== '') {
    report.fail('transfers', 'proxy_control_url', 'excludes proxy_control_socket')
  }
  const hasProxy = proxy_control_socket !== '' || proxy_control_url !== ''
  if (hasProxy !== (proxy_url !== '')) {
    const reason = 'goes together with the address of its control service'
    report.fail('transfers', 'proxy_url', reason, 'proxy_control_socket', 'proxy_control_url')
  }
  checkSections(config, report)
  checkLocalHost(config, report)
  reportDuplicates('host', namedHosts(config), report)
  reportDuplicates('storage domain', namedDomains(config), report)
}

/** Its name is all that clients have, where no URL is given. */
function checkLocalHost({ transfers }: CommonConfig, report: Report): void {
  const { local_host, host_name, transfer_url } = transfers
  const name = host_name || hostname()
  if (!local_host || transfer_url !== '' || URL.canParse(`https://${name}`)) return
  const reason = `must be given, as ${JSON.stringify(name)} is no name that clients can look up`
  report.fail('transfers', 'transfer_url', reason, 'host_name')
}

function namedHosts(config: CommonConfig): Named[] {
  const more = hostSections(config).map(([name, { id }]) => ({
    ...{ section: HOST + name, name, id, idKey: 'id' },
  }))
  const { local_host, host_name, host_id: id } = config.transfers
  if (!local_host) return more
  const keys = { nameKey: 'host_name', idKey: 'host_id' }
  return [{ section: 'transfers', name: host_name || hostname(), id, ...keys }, ...more]
}

function namedDomains(config: CommonConfig): Named[] {
  const more = domainSections(config).map(([name, { id }]) => ({
    ...{ section: DOMAIN + name, name, id, idKey: 'id' },
  }))
  if (config.transfers.storage_dir === '') return more
  const keys = { nameKey: 'storage_dir', idKey: 'storage_dir' }
  return [{ section: 'transfers', name: DEFAULT_DOMAIN, id: '', ...keys }, ...more]
}

/** Who waits keeps a connection; others of the address are to have some left. */
function checkLimits(transfers: CommonConfig['transfers'], report: Report): void {
  const { max_waiting_per_address, max_event_streams_per_address } = transfers
  const { max_connections_per_address } = transfers
  const staying = max_waiting_per_address + max_event_streams_per_address
  if (staying < max_connections_per_address) return
  report.fail(
    'transfers',
    'max_connections_per_address',
    `must be more than max_waiting_per_address and max_event_streams_per_address together, ${staying}`,
  )
}

function checkSections(config: CommonConfig, report: Report): void {
  for (const [name, { control_socket, control_url, transfer_url }] of hostSections(config)) {
    if ((control_socket === '') === (control_url === '')) {
      const reason = 'or control_socket must be given, and not both'
      report.fail(HOST + name, 'control_url', reason, 'control_socket')
    }
    if (transfer_url === '') report.fail(HOST + name, 'transfer_url', 'must be given')
  }
  for (const [name, domain] of domainSections(config)) {
    if (domain.path === '') report.fail(DOMAIN + name, 'path', 'must be given')
  }
  const { local_host, storage_dir } = config.transfers
  if (!local_host && hostSections(config).length === 0) {
    report.fail('transfers', 'local_host', 'must be on while there is no section [host_NAME]')
  }
  if (storage_dir === '' && domainSections(config).length === 0) {
    report.fail('transfers', 'storage_dir', 'must be given while there is no [storage_domain_NAME]')
  }
}
