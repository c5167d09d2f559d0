/** Whom the proxy trusts, and how it shows who it is, on connections to daemons. */
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import {
  createSecureContext,
  DEFAULT_CIPHERS,
  getCACertificates,
  type SecureContextOptions,
} from 'node:tls'
import type { TrustSettings } from '../native/transport.js'
import type { ProxyConfig } from './config.js'

/**
 * A file given replaces the system store. Throws an Error that names the file: what cannot be trusted
 * must be known at start, not at the first transfer.
 */
export function readTrust({ backend_http, tls }: ProxyConfig): SecureContextOptions {
  const caFile = backend_http.ca_file === '' ? tls.ca_file : backend_http.ca_file
  const options: SecureContextOptions = {
    minVersion: 'TLSv1.2',
    ...(caFile === '' ? {} : { ca: readAuthorities(caFile) }),
  }
  const { cert_file, key_file } = backend_http
  if (cert_file === '') return options
  try {
    const own = { ...options, cert: readFileSync(cert_file), key: readFileSync(key_file) }
    createSecureContext(own)
    return own
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`cannot use key ${key_file} with certificate ${cert_file}: ${reason}`, {
      cause,
    })
  }
}

/** The same for the native front. */
export function frontTrust({ ca, key, cert }: SecureContextOptions): TrustSettings {
  const text = (pem: unknown): string => (Buffer.isBuffer(pem) ? pem.toString('latin1') : '')
  return {
    authorities: ca === undefined ? getCACertificates('default').join('\n') : text(ca),
    key: text(key),
    cert: text(cert),
    ciphers: DEFAULT_CIPHERS,
  }
}

/**
 * OpenSSL takes what is no certificate for an empty store, and trusts nobody. Throws an Error that names the
 * file.
 */
function readAuthorities(path: string): Buffer {
  try {
    const bytes = readFileSync(path)
    const found = bytes.toString('latin1').match(PEM) ?? []
    if (found.length === 0) throw new Error('it holds no certificate (PEM)')
    for (const text of found) new X509Certificate(text)
    return bytes
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`cannot check daemons against ${path}: ${reason}`, { cause })
  }
}

const PEM = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g

/** For --check-config, which has looked at the authorities itself. */
export function trustProblems(config: ProxyConfig): string[] {
  if (config.backend_http.cert_file === '') return []
  try {
    readTrust(config)
    return []
  } catch (error) {
    return [`[backend_http] ${error instanceof Error ? error.message : String(error)}`]
  }
}
