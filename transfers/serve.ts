/** The API on its address. */
import { readFileSync } from 'node:fs'
import { createServer, type AddressInfo, type Server } from 'node:net'
import { readTlsMaterial, type TlsMaterial } from '../core/http/tls.js'
import { VERSION } from '../core/http/version.js'
import { describe } from '../core/process/host-checks.js'
import type { RunningServer } from '../core/process/main.js'
import type { StartOptions } from '../core/process/server.js'
import { createApi } from './api/api.js'
import { STREAM_LIMITS } from './api/options.js'
import { replaceCertificate } from './api/server.js'
import type { TransfersConfig } from './options.js'
import type { TransferService } from './model.js'
import { PasswordFile } from './password-file.js'

export interface ServeOptions extends Pick<StartOptions<TransfersConfig>, 'config' | 'logger'> {
  /** Where definitions of virtual machines are kept; undefined refuses them. */
  readonly vmDirectory: string | undefined
}

/** As many looks at a transfer without a byte more, and it is said to stand still. */
const LOOKS_WHEN_STILL = 3

/** Resolves when clients are served. */
export async function serveApi(
  service: TransferService,
  { config, logger, vmDirectory }: ServeOptions,
): Promise<RunningServer<TransfersConfig>> {
  const { transfers, tls, daemon } = config
  const app = await createApi({
    service,
    users: new PasswordFile(transfers.password_file),
    logger,
    tls: readTls(config),
    ca: tls.ca_file === '' ? undefined : readFileSync(tls.ca_file),
    vmDirectory,
    maxConnections: transfers.max_connections,
    maxConnectionsPerAddress: transfers.max_connections_per_address,
    streams: {
      ...STREAM_LIMITS,
      maxWaiting: transfers.max_waiting,
      maxWaitingPerAddress: transfers.max_waiting_per_address,
      maxStreams: transfers.max_event_streams,
      maxStreamsPerAddress: transfers.max_event_streams_per_address,
      stillMs: LOOKS_WHEN_STILL * transfers.poll_interval * 1000,
    },
  })
  await listen(app.server, transfers).catch((cause: unknown) => {
    throw listenError(cause, transfers)
  })
  const { address, port } = app.server.address() as AddressInfo
  logger.info({ version: VERSION, service: 'api', address, port }, 'listening')
  return {
    reload: (changed) => {
      const material = readTls(changed)
      if (material === undefined) return
      replaceCertificate(app.server, material)
      logger.info('certificate reloaded')
    },
    stop: async () => {
      const cut = setTimeout(() => app.server.closeAllConnections(), daemon.shutdown_timeout * 1000)
      await app.close()
      clearTimeout(cut)
    },
  }
}

interface Address {
  readonly host: string
  readonly port: number
}

/** Before anything is begun that ends who has the address. Throws an Error that says what to mend. */
export async function requireFree(address: Address): Promise<void> {
  const server = createServer()
  await listen(server, address).catch((cause: unknown) => {
    throw listenError(cause, address)
  })
  await new Promise((resolve) => server.close(resolve))
}

/** `::` means IPv4 as well, and on a host without IPv6 only that. */
async function listen(server: Server, { host, port }: Address): Promise<void> {
  try {
    await listenOn(server, host, port)
  } catch (error) {
    if (host !== '::' || (error as NodeJS.ErrnoException).code !== 'EAFNOSUPPORT') throw error
    await listenOn(server, '0.0.0.0', port)
  }
}

function listenOn(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ host, port }, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

/** Says what to mend. */
function listenError(cause: unknown, { host, port }: Address): Error {
  const { code } = cause as NodeJS.ErrnoException
  const what = `cannot listen on ${host} port ${port}`
  const mend = 'choose another with [transfers] port'
  if (code === 'EADDRINUSE') return new Error(`${what}: it is in use; ${mend}`, { cause })
  if (code === 'EACCES') return new Error(`${what}: permission denied; ${mend}`, { cause })
  return new Error(`${what}: ${describe(cause)}; mend [transfers] host`, { cause })
}

/** Undefined without TLS. */
function readTls({ tls }: TransfersConfig): TlsMaterial | undefined {
  return tls.enable ? readTlsMaterial(tls.key_file, tls.cert_file) : undefined
}
