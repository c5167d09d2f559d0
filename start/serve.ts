/** From options to a served image, and everything away again at the end. */
import { mkdtemp, rm } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { isIPv6 } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ControlError, type ControlClient } from '../core/control/control-client.js'
import type { Child } from './child.js'
import { freePort } from './free-port.js'
import { givenImages, sampleImage } from './images.js'
import { instructions } from './instructions.js'
import type { LiveLine } from './live-line.js'
import type { StartOptions } from './options.js'
import { preparePki } from './pki.js'
import { startServers } from './servers.js'
import { watchSources } from './sources.js'
import { StartError } from './start-error.js'
import {
  installProxyTickets,
  installTickets,
  progressOf,
  renewTickets,
  RENEW_MS,
  type ServedImage,
} from './tickets.js'

export interface Surroundings {
  /** The checkout. */
  readonly root: string
  /** Aborted when the user has seen enough. */
  readonly signal: AbortSignal
  readonly print: (text: string) => void
  readonly printLog: (text: string) => void
  readonly createLiveLine: () => LiveLine
}

const PROGRESS_MS = 500
const ANY_ADDRESS = new Set(['0.0.0.0', '::'])
const LOOPBACK = /^(127\.|::1$|localhost$)/

/** Resolves when the signal is aborted and all is cleaned up. Throws StartError. */
export async function serve(options: StartOptions, around: Surroundings): Promise<void> {
  const { root, signal } = around
  const given = await givenImages(options)
  const { host } = options
  // Before anything is made: a name of no machine is told here.
  const port = await freePort(host, options.port)
  const name = ANY_ADDRESS.has(host) ? hostname() : host
  const runDir = await mkdtemp(join(tmpdir(), 'imageio-'))
  const children: Child[] = []
  const servers: Child[] = []
  const line = around.createLiveLine()
  try {
    const pki = await preparePki({ caDir: join(root, '.dev', 'pki'), runDir, name })
    const images = given.length > 0 ? given : [await sampleImage(runDir)]
    const onLog = options.isVerbose ? { onLog: around.printLog } : {}
    const urlHost = isIPv6(name) ? `[${name}]` : name
    const settings = {
      ...options,
      root,
      runDir,
      pki,
      port,
      urlHost,
      served: images,
      signal,
      onOutcome: (text: string) => line.say(printable(text)),
      ...onLog,
    }
    const running = await startServers(settings, children, servers)
    const { paths, client, origin, beside } = running
    const served = await installTickets(client, running.sources)
    if (beside) await installProxyTickets(beside.proxy.client, served, origin)
    const place = {
      ...pki,
      ...paths,
      origin,
      imageioctl: join(root, 'bin', 'imageioctl'),
      isPublic: !LOOPBACK.test(host),
      beside: beside && { proxyOrigin: beside.proxy.origin, transfers: beside.transfers },
    }
    around.print(instructions(place, served))
    const clients = [client, ...(beside ? [beside.proxy.client] : [])] as const
    // Who keeps disks may be using the transfer service alone.
    const losses = { mayEnd: options.transfersDir === undefined, warn: around.printLog }
    await Promise.race([
      ...children.map(({ died }) => died),
      watchSources(running.sources, losses),
      watch(clients, served, line, signal),
    ])
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    line.close()
    // The daemon first, that no request meets a qemu-nbd that is gone.
    for (const child of [...children.reverse(), ...servers]) await child.stop()
    await rm(runDir, { recursive: true, force: true })
  }
}

/** Shows progress and keeps the tickets alive until the signal is aborted. */
async function watch(
  [daemon, ...others]: readonly [ControlClient, ...ControlClient[]],
  images: readonly ServedImage[],
  line: LiveLine,
  signal: AbortSignal,
): Promise<void> {
  const readProgress = progressOf(daemon)
  let renewedMs = performance.now()
  try {
    while (!signal.aborted) {
      const nowMs = performance.now()
      line.update(await readProgress(), nowMs)
      if (nowMs - renewedMs >= RENEW_MS) {
        for (const client of [daemon, ...others]) await renewTickets(client, images)
        renewedMs = nowMs
      }
      await sleep(PROGRESS_MS, undefined, { signal }).catch(() => undefined)
    }
  } catch (cause) {
    if (!(cause instanceof ControlError)) throw cause
    // A daemon that died says why in a moment.
    await sleep(PROGRESS_MS)
    throw new StartError(cause.message, { cause })
  }
}

/** Without control characters, which a terminal might obey: a reason may quote an image. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, '?')
}
