/** From the URL of a ticket to an NBD backend. */
import { readFile, realpath } from 'node:fs/promises'
import { isIP } from 'node:net'
import type tls from 'node:tls'
import type { NbdMover } from '../../../native/nbd.js'
import type { Backend } from '../backend.js'
import { BackendOpenError } from '../errors.js'
import type { ImageStates } from '../image-states.js'
import { NbdConnection } from './connection.js'
import { NbdBackend } from './nbd.js'
import { parseNbdUrl, type NbdUrl } from './url.js'

/** [backend_nbd], in this program's units. */
export interface NbdSettings {
  readonly maxRequest: number
  readonly connectTimeoutMs: number
  readonly operationTimeoutMs: number
  /** Trust anchors for nbds (PEM); undefined means those of the system. */
  readonly caFile: string | undefined
}

export interface OpenNbdOptions {
  readonly writable: boolean
  readonly dirty: boolean
  readonly maxConnections: number
  readonly images: ImageStates
  readonly nbd: NbdSettings
  readonly onWritesLost: (cause: unknown) => void
  /** Ends everything, also what is in flight, a grace after it is aborted. */
  readonly signal?: AbortSignal | undefined
  readonly cancelGraceMs: number
  /** Moves data past JavaScript, where it can: from and to Unix sockets. */
  readonly mover?: NbdMover | undefined
}

export async function openNbd(url: string, options: OpenNbdOptions): Promise<Backend> {
  const parsed = parseNbdUrl(url)
  const { nbd, images } = options
  const openedAt = images.now
  const connection = await NbdConnection.open({
    ...nbd,
    address: parsed.address,
    exportName: parsed.exportName,
    dirty: options.dirty,
    tls: await tlsOptions(parsed, nbd),
    signal: options.signal,
    cancelGraceMs: options.cancelGraceMs,
    mover: options.mover,
  })
  return new NbdBackend({
    connection,
    isWritable: options.writable,
    maxConnections: options.maxConnections,
    maxRequest: nbd.maxRequest,
    images,
    state: images.acquire(await identityOf(parsed, connection)),
    openedAt,
    onWritesLost: options.onWritesLost,
  })
}

/**
 * The same for every URL that means one export, as far as can be told: whatever the path of the socket,
 * the name of the host, and whether with TLS.
 */
async function identityOf(
  { address, exportName }: NbdUrl,
  { peer }: NbdConnection,
): Promise<string> {
  const path = 'path' in address ? address.path : undefined
  const place = path === undefined ? peer : await realpath(path).catch(() => path)
  return `n${JSON.stringify([place, exportName])}`
}

/** Read when it is needed: a file that is missing does not matter to who uses no TLS. */
async function tlsOptions(
  { tls, address }: NbdUrl,
  { caFile }: NbdSettings,
): Promise<tls.ConnectionOptions | undefined> {
  if (!tls || 'path' in address) return undefined
  const { host } = address
  try {
    const ca = caFile === undefined ? {} : { ca: await readFile(caFile) }
    return { host, ...(isIP(host) === 0 ? { servername: host } : {}), ...ca }
  } catch (cause) {
    throw new BackendOpenError('the certificates for NBD servers cannot be read', { cause })
  }
}
