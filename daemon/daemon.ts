/** Puts the daemon together: the images service on storage, in a server. Nothing is global. */
import { BufferPool } from '../core/buffer-pool.js'
import type { Logger } from '../core/log.js'
import { Server, type StartOptions } from '../core/process/server.js'
import { TicketDeniedError } from '../core/tickets/errors.js'
import { UNKNOWN, logFields } from '../core/tickets/store.js'
import type { Ticket } from '../core/tickets/ticket.js'
import { MiB } from '../core/units.js'
import { NbdMover } from '../native/nbd.js'
import type { Backend } from './backends/backend.js'
import { PathNotAllowedError } from './backends/errors.js'
import { ImageStates } from './backends/image-states.js'
import type { NbdSettings } from './backends/nbd/open.js'
import { isWrittenUnder, normalizeUrl, openBackend } from './backends/open.js'
import { splitPaths, type DaemonConfig } from './config.js'
import type { OpenImage } from './images/context.js'
import { imageRoutes } from './images/routes.js'
import { ChecksumSlots } from './operations/checksum-slots.js'

/** Storage and TLS are as fast with 1 MiB as with more; two buffers per operation. */
const CHUNK_SIZE = MiB

/** Resolves when every service listens. Rejects with what an administrator has to mend. */
export function startDaemon(options: StartOptions<DaemonConfig>): Promise<Server> {
  const { config, logger } = options
  return Server.start(options, {
    normalizeUrl,
    normalizeSignedUrl: (url) => normalizeSignedUrl(url, config),
    recordsChanges: true,
    routes: (gate) =>
      imageRoutes({
        gate,
        open: imageOpener(config, logger),
        buffers: bufferPool(config),
        checksums: new ChecksumSlots(config.limits.max_checksums),
        minBodyRate: config.limits.min_body_rate,
        localSocket: config.local.enable ? config.local.socket : undefined,
      }),
  })
}

/** What a token must not name is refused unseen, as who signs must not find out what is on this host. */
function normalizeSignedUrl(url: string, config: DaemonConfig): string {
  const normal = normalizeUrl(url)
  if (!normal.startsWith('file:')) {
    if (config.signed_tickets.allow_nbd) return normal
    throw new Error('tokens may name files only')
  }
  if (isWrittenUnder(normal, splitPaths(config.backend_file.allowed_paths))) return normal
  throw new Error('outside of [backend_file] allowed_paths')
}

/**
 * For what a canceled ticket has in flight on an NBD server, and for its last flush: less than DELETE
 * waits, if it does. What has not been stored by then is lost, and storage stalls for tens of seconds.
 */
const CANCEL_GRACE = 0.8
const CANCEL_GRACE_MS = 10_000

function imageOpener(config: DaemonConfig, logger: Logger): OpenImage {
  const graceMs = config.control.remove_timeout * 1000 * CANCEL_GRACE
  const options = {
    maxConnections: config.daemon.max_connections,
    allowedPaths: splitPaths(config.backend_file.allowed_paths),
    images: new ImageStates(),
    nbd: nbdSettings(config),
    cancelGraceMs: graceMs > 0 ? graceMs : CANCEL_GRACE_MS,
    mover: config.transport.native === 'off' ? undefined : new NbdMover(),
  }
  return async (ticket: Ticket): Promise<Backend> => {
    const { url, ops, dirty } = ticket.definition
    const writable = ops.includes('write')
    const backend = await openBackend(url, {
      ...options,
      writable,
      dirty,
      signal: ticket.canceled,
      writer: ticket,
      onWritesLost: (cause) => ticket.breakOff(cause),
    }).catch((cause: unknown) => {
      if (!ticket.isSigned || !(cause instanceof PathNotAllowedError)) throw cause
      logger.warn(
        { ...logFields(ticket.definition), reason: cause.message },
        'signed ticket refused',
      )
      throw new TicketDeniedError(UNKNOWN, { cause })
    })
    const { name, blockSize } = backend
    const facts = { backend: name, block: blockSize, writable }
    logger.info({ ...logFields(ticket.definition), ...facts }, 'image opened')
    return backend
  }
}

function nbdSettings({ backend_nbd, tls }: DaemonConfig): NbdSettings {
  const caFile = backend_nbd.ca_file === '' ? tls.ca_file : backend_nbd.ca_file
  return {
    maxRequest: backend_nbd.buffer_size,
    connectTimeoutMs: backend_nbd.connect_timeout * 1000,
    operationTimeoutMs: backend_nbd.operation_timeout * 1000,
    caFile: caFile === '' ? undefined : caFile,
  }
}

function bufferPool({ backend_file, limits }: DaemonConfig): BufferPool {
  const half = Math.floor(backend_file.buffer_size / 2)
  return new BufferPool({
    bufferSize: Math.min(CHUNK_SIZE, half - (half % 4096)),
    maxBytes: limits.buffer_memory,
    waitTimeoutMs: limits.buffer_wait_timeout * 1000,
  })
}
