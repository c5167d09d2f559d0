/** What TLS connections may use. */
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createSecureContext, type SecureContextOptions } from 'node:tls'

export interface TlsMaterial {
  /** PEM. */
  readonly key: Buffer
  /** PEM, with its chain if it has one. */
  readonly cert: Buffer
  /** PEM: who issues certificates of clients, for services that ask for them. */
  readonly clientCa?: Buffer
}

/** AEAD suites only; for TLS 1.2 with forward secrecy. The client's order counts, it knows its AES speed. */
export const CIPHERS = [
  'TLS_AES_256_GCM_SHA384',
  'TLS_AES_128_GCM_SHA256',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':')

export function tlsOptions({ key, cert }: TlsMaterial): SecureContextOptions {
  return { key, cert, minVersion: 'TLSv1.2', ciphers: CIPHERS, honorCipherOrder: false }
}

/** Reads certificates that others are checked against. Throws with a message that names the file. */
export function readAuthorities(file: string): Buffer {
  try {
    const pem = readFileSync(file)
    new X509Certificate(pem) // what holds none would be no authority, silently
    return pem
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`cannot use the authorities in ${file}: ${reason}`, { cause })
  }
}

/** Reads and checks that both belong together. Throws with a message that names the files. */
export function readTlsMaterial(keyFile: string, certFile: string): TlsMaterial {
  try {
    const material = { key: readFileSync(keyFile), cert: readFileSync(certFile) }
    createSecureContext(tlsOptions(material))
    return material
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`cannot use key ${keyFile} with certificate ${certFile}: ${reason}`, { cause })
  }
}
