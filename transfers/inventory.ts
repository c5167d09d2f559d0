/** Hosts, proxy and storage domains as the configuration names them. */
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import type { ControlAddress, ControlTls } from '../core/control/control-client.js'
import { readAuthorities, readTlsMaterial } from '../core/http/tls.js'
import { DEFAULT_DOMAIN, domainSections, hostSections, type TransfersConfig } from './options.js'
import type { HostSettings, ProxySettings } from './hosts/hosts.js'
import { idOf } from './ids.js'
import type { Id } from './model.js'

const DAEMON_PORT = 54322
const HARDWARE_ID_FILE = '/etc/vdsm/vdsm.id'

export interface DomainSettings {
  readonly id: Id
  readonly name: string
  readonly path: string
}

export function hostsOf(config: TransfersConfig): HostSettings[] {
  const { transfers } = config
  const more = hostSections(config).map(([name, section]): HostSettings => {
    const { control_socket, control_url, transfer_url, hardware_id } = section
    const option = `[host_${name}] control_url`
    const control = controlAddress(config, option, control_socket, control_url)
    return {
      id: section.id || idOf('host', name),
      name,
      address: section.address || hostOfUrl(transfer_url),
      hardwareId: hardware_id || undefined,
      control,
      transferUrl: transfer_url,
      hasNbdServers: 'socketPath' in control,
    }
  })
  if (!transfers.local_host) return more
  const name = transfers.host_name || hostname()
  const transferUrl = transfers.transfer_url || `https://${name}:${DAEMON_PORT}`
  const local: HostSettings = {
    id: transfers.host_id || idOf('host', name),
    name,
    address: hostOfUrl(transferUrl),
    hardwareId: transfers.hardware_id || hardwareId(),
    control: { socketPath: transfers.control_socket },
    transferUrl,
    hasNbdServers: true,
  }
  return [local, ...more]
}

export function proxyOf(config: TransfersConfig): ProxySettings | undefined {
  const { proxy_control_socket, proxy_control_url, proxy_url } = config.transfers
  if (proxy_url === '') return undefined
  return {
    control: controlAddress(
      config,
      '[transfers] proxy_control_url',
      proxy_control_socket,
      proxy_control_url,
    ),
    url: proxy_url,
  }
}

export function domainsOf(config: TransfersConfig): DomainSettings[] {
  const { storage_dir } = config.transfers
  const more = domainSections(config).map(([name, { id, path }]) => ({
    id: id || idOf('storage domain', name),
    name,
    path,
  }))
  if (storage_dir === '') return more
  const name = DEFAULT_DOMAIN
  return [{ id: idOf('storage domain', name), name, path: storage_dir }, ...more]
}

/** `option` is where `url` was given: who needs the certificates. */
function controlAddress(
  config: TransfersConfig,
  option: string,
  socketPath: string,
  url: string,
): ControlAddress {
  if (socketPath !== '') return { socketPath }
  const { protocol, port } = new URL(url)
  const host = hostOfUrl(url)
  if (protocol === 'http:') return { host, port: Number(port || 80) }
  try {
    return { host, port: Number(port || 443), tls: controlTls(config) }
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`${option}: ${reason}`, { cause })
  }
}

/** The files of [transfers] control_*, read and checked. Throws with a message that names them. */
export function controlTls({ tls, transfers }: TransfersConfig): ControlTls {
  const { control_ca_file, control_cert_file, control_key_file } = transfers
  return {
    ca: readAuthorities(control_ca_file || tls.ca_file),
    ...readTlsMaterial(control_key_file || tls.key_file, control_cert_file || tls.cert_file),
  }
}

/** An IPv6 address comes without its brackets. Empty for what is no URL, which was told. */
function hostOfUrl(url: string): string {
  return (URL.parse(url)?.hostname ?? '').replace(/^\[(.*)\]$/, '$1')
}

function hardwareId(): string | undefined {
  try {
    return readFileSync(HARDWARE_ID_FILE, 'utf8').trim() || undefined
  } catch {
    return undefined
  }
}
