/**
 * Who is compared with whom in downloads and uploads: files beside nginx, NBD exports beside nbdcopy,
 * the proxy beside others before the same daemon.
 */
import { isInstalled } from './command.js'
import { inFront, type Front } from './front.js'
import { h2load } from './h2load.js'
import { startHaproxy } from './haproxy.js'
import { imageioFiles, imageioNbd, startImageio, type Imageio } from './imageio.js'
import { startImageioProxy } from './imageio-proxy.js'
import { NbdExports } from './nbd-exports.js'
import { nbdcopy } from './nbdcopy.js'
import { startNginxFront } from './nginx-front.js'
import { startNginx } from './nginx.js'
import type { BenchOptions } from './options.js'
import type { Place } from './place.js'
import type { Result } from './report.js'
import type { System } from './system.js'
import { compare } from './transfers.js'

/** Without the native front, see docs/transport.md. */
const PLAIN = '[transport]\nnative = off\n'

export function measureFiles(place: Place, options: BenchOptions): Promise<Result[]> {
  const start = async (): Promise<System[]> => {
    const { systems } = options
    const found: System[] = []
    if (systems.has('imageio')) found.push(imageioFiles(await startImageio(place), 'imageio'))
    if (systems.has('imageio-plain')) {
      found.push(imageioFiles(await startImageio(place, PLAIN), 'imageio plain'))
    }
    if (systems.has('nginx') && isInstalled('nginx')) found.push(await startNginx(place))
    return found
  }
  return compare({ prefix: '', start }, place, options)
}

/** What the reference of HTTP/2 is called. */
export const OWN_H1 = 'imageio HTTP/1.1'

/** The same daemon and client over both versions. */
export async function measureH2(place: Place, options: BenchOptions): Promise<Result[]> {
  if (!options.systems.has('imageio') || !isInstalled('h2load')) return []
  const start = async (): Promise<System[]> => {
    const imageio = await startImageio(place)
    const system = imageioFiles(imageio, OWN_H1)
    return [{ ...withH2load(system, 'h2'), name: 'imageio HTTP/2' }, withH2load(system, 'http/1.1')]
  }
  return compare({ prefix: 'HTTP/2 ', transport: 'TLS', start }, place, options)
}

/** Downloads that are looked at are still curl's, as h2load keeps nothing. */
function withH2load(system: System, protocol: 'h2' | 'http/1.1'): System {
  return {
    ...system,
    serve: async (files, direction) => {
      const targets = await system.serve(files, direction)
      return targets.map(({ file, command }) => ({
        file,
        command: (transfer) => {
          const usual = command(transfer)
          const url = usual.args.at(-1) ?? ''
          if (direction === 'GET' && transfer.local !== undefined) return usual
          return h2load(protocol, direction, url, transfer.local)
        },
      }))
    },
  }
}

/** What the reference of NBD exports is called. */
export const OWN_FILES = 'imageio file'

export async function measureNbd(place: Place, options: BenchOptions): Promise<Result[]> {
  if (!isInstalled('qemu-nbd')) return []
  const start = async (): Promise<System[]> => {
    const { systems } = options
    const newExports = (): NbdExports => {
      const exports = new NbdExports(place.dir)
      place.atEnd(() => exports.close())
      return exports
    }
    const found: System[] = []
    if (systems.has('imageio')) {
      const imageio = await startImageio(place)
      found.push(imageioNbd(imageio, 'imageio NBD', newExports()), imageioFiles(imageio, OWN_FILES))
    }
    if (systems.has('nbdcopy') && isInstalled('nbdcopy')) found.push(nbdcopy(newExports()))
    return found
  }
  return compare({ prefix: 'NBD ', start }, place, options)
}

/** What the reference of proxies is called: nothing between client and daemon. */
export const DIRECT = 'imageio direct'

interface FrontKind {
  /** As in --system; the program that must be there. */
  readonly system: string
  readonly program?: string
  readonly start: (place: Place, daemon: Imageio) => Promise<Front>
}

const FRONTS: readonly FrontKind[] = [
  { system: 'imageio-proxy', start: startImageioProxy },
  {
    system: 'imageio-proxy-plain',
    start: (place, daemon) =>
      startImageioProxy(place, daemon, { name: 'imageio-proxy plain', more: PLAIN }),
  },
  { system: 'nginx', program: 'nginx', start: startNginxFront },
  { system: 'haproxy', program: 'haproxy', start: startHaproxy },
]

/** Both hops over TLS, the client's and the one to the daemon. */
export async function measureProxies(place: Place, options: BenchOptions): Promise<Result[]> {
  const { systems } = options
  const kinds = FRONTS.filter(
    ({ system, program }) => systems.has(system) && (program === undefined || isInstalled(program)),
  )
  if (kinds.length === 0) return []
  const start = async (): Promise<System[]> => {
    const daemon = await startImageio(place)
    const found = systems.has('imageio') ? [imageioFiles(daemon, DIRECT)] : []
    for (const kind of kinds) {
      found.push(inFront(await kind.start(place, daemon), daemon, place.pki))
    }
    return found
  }
  return compare({ prefix: 'proxy ', transport: 'TLS', start }, place, options)
}
