/** What the engine works with: storage, verification, NBD servers, and the API in front of it. */
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import type { StartOptions } from '../core/process/server.js'
import type { TransfersConfig } from './options.js'
import { Domains } from './domains.js'
import { groupOf } from './group.js'
import { domainsOf } from './inventory.js'
import type { NbdServers, Verifier } from './lifecycle/ports.js'
import { NbdServers as QemuNbdServers, type NbdServersOptions } from './nbd/nbd-servers.js'
import { serveApi } from './serve.js'
import type { Parts } from './transfers.js'
import { Turns } from './turns.js'
import { verifyVolume } from './verify/verify.js'

/** Beside the volumes, and no volume's name: instances that share the storage share them. */
const VM_DIRECTORY = '.vms'

export function createParts({ config, logger }: StartOptions<TransfersConfig>): Parts {
  const settings = domainsOf(config)
  const group = groupOf(config)
  const domains = new Domains(settings, group)
  const [first] = settings
  const vmDirectory = first && join(first.path, VM_DIRECTORY)
  return {
    volumes: domains,
    verifier: verifierOf(domains, config.transfers.max_verifications),
    nbd: nbdServersOf(domains, {
      runDir: config.transfers.run_dir,
      storage: settings.map(({ path }) => path),
      ...(group === undefined ? {} : { group }),
    }),
    serve: (service) => serveApi(service, { config, logger, vmDirectory }),
  }
}

/** 0 is one for each processor: each keeps one busy, and reads storage that clients use as well. */
function verifierOf(domains: Domains, limit: number): Verifier {
  const turns = new Turns(limit === 0 ? availableParallelism() : limit)
  return {
    verify: (disk) =>
      turns.take(async () => {
        const { format, provisionedSize } = disk
        return verifyVolume({ path: await domains.readyPath(disk), format, provisionedSize })
      }),
    stop: () => turns.close(new Error('the service stops, before the image was verified')),
  }
}

function nbdServersOf(domains: Domains, options: NbdServersOptions): NbdServers {
  const servers = new QemuNbdServers(options)
  return {
    /** One that runs is the one of before a restart of the service: its clients are not disturbed. */
    start: async ({ id, direction }, disk) => {
      const found = await servers.find(id)
      if (found !== undefined) return { url: found.url, isNew: false }
      const { format, sparse: isSparse } = disk
      const path = await domains.readyPath(disk)
      const { url } = await servers.start(id, { path, format, direction, isSparse })
      return { url, isNew: true }
    },
    stop: servers.stop.bind(servers),
    isAlive: async (id) => (await servers.find(id)) !== undefined,
    running: () => servers.list(),
  }
}
