/** Who a TLS client is, by its certificate, whose chain was verified before. */
import type { TLSSocket } from 'node:tls'

/**
 * Whether one of these names is the common name of the certificate's subject or among its DNS names.
 * Without a certificate, which a resumed session may lack, the answer is no.
 */
export function hasName(socket: TLSSocket, names: readonly string[]): boolean {
  const certificate = socket.getPeerX509Certificate()
  if (!socket.authorized || certificate === undefined) return false
  const { CN: commonName } = socket.getPeerCertificate().subject
  // Several common names are no name: which of them was checked by whom is anybody's guess.
  return names.some(
    (name) => commonName === name || certificate.checkHost(name, EXACTLY) !== undefined,
  )
}

const EXACTLY = { subject: 'never', wildcards: false, partialWildcards: false } as const
