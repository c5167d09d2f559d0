/** Every server of a run, started at once as far as they do not need each other. */
import { join } from 'node:path'
import { ControlClient } from '../core/control/control-client.js'
import type { Child } from './child.js'
import { writeDaemonConfig, type DaemonPaths } from './daemon-config.js'
import { startDaemon } from './daemon-process.js'
import type { Image } from './image.js'
import type { StartOptions } from './options.js'
import { outcomesOf } from './outcomes.js'
import type { Pki } from './pki.js'
import { startProxy, type Proxy } from './proxy.js'
import { openSources, type Source } from './sources.js'
import { together } from './together.js'
import { prepareTransfers, startTransfers, type TransferPlace } from './transfers.js'

export interface ServersOptions extends StartOptions {
  /** The checkout. */
  readonly root: string
  readonly runDir: string
  readonly pki: Pki
  /** Of this machine in URLs; IPv6 in brackets. */
  readonly urlHost: string
  readonly served: readonly Image[]
  readonly signal: AbortSignal
  readonly onLog?: (text: string) => void
  /** Gets a line for each transfer that ended. */
  readonly onOutcome: (line: string) => void
}

export interface Running {
  readonly paths: DaemonPaths
  /** Of the daemon: https://127.0.0.1:54322 */
  readonly origin: string
  readonly client: ControlClient
  readonly sources: readonly Source[]
  /** Undefined with --daemon-only. */
  readonly beside: { readonly proxy: Proxy; readonly transfers: TransferPlace } | undefined
}

/**
 * Adds what it starts to `children`, in the order of who needs whom, and servers of images to
 * `imageServers`. Throws StartError.
 */
export async function startServers(
  options: ServersOptions,
  children: Child[],
  imageServers: Child[],
): Promise<Running> {
  const { root, runDir, pki, urlHost, port, isVerbose, onLog } = options
  const { transfersDir: dir, isDaemonOnly } = options
  // Uploads to disks that are kept go on with the next run.
  const recordsDir = dir === undefined ? runDir : join(dir, 'daemon')
  const paths = await writeDaemonConfig(runDir, { ...options, pki, port, isVerbose, recordsDir })
  const client = new ControlClient({ address: { socketPath: paths.controlSocket } })
  const origin = `https://${urlHost}:${port}`
  const log = onLog === undefined ? {} : { onLog }
  const keep = (index: number, child: Child): void => void (order[index] = child)
  const order: (Child | undefined)[] = []
  try {
    const sources = await openSources(
      options.served,
      { runDir, signal: options.signal, ...log },
      imageServers,
    )
    const program = join(root, 'bin', 'imageio-daemon')
    const daemon = async (signal: AbortSignal): Promise<void> =>
      keep(0, await startDaemon({ program, confDir: paths.confDir, client, signal, ...log }))
    if (isDaemonOnly) {
      await daemon(options.signal)
      return { paths, origin, client, sources, beside: undefined }
    }
    const [, proxy, transfers] = await together<[unknown, Proxy, TransferPlace]>(options.signal, [
      daemon,
      async (signal) => {
        const started = await startProxy({ ...options, origin, signal })
        keep(1, started.child)
        return started
      },
      (signal) => prepareTransfers({ ...options, dir, signal }),
    ])
    const servers = {
      origin,
      controlSocket: paths.controlSocket,
      proxyOrigin: proxy.origin,
      proxySocket: proxy.controlSocket,
    }
    const tellOutcomes = outcomesOf(options.onOutcome)
    const watched = (text: string): void => {
      tellOutcomes(text)
      onLog?.(text)
    }
    keep(2, await startTransfers({ ...options, dir, onLog: watched }, transfers, servers))
    return { paths, origin, client, sources, beside: { proxy, transfers } }
  } finally {
    children.push(...order.filter((child) => child !== undefined))
  }
}
