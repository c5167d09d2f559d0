/**
 * nbdcopy on the exports themselves: no HTTP, no TLS and no second server between, so the most that a
 * client on this host can get.
 */
import type { Command } from './command.js'
import { endedChildrenSeconds } from './cpu.js'
import type { NbdExports } from './nbd-exports.js'
import type { System, Transfer } from './system.js'

export function nbdcopy(exports: NbdExports): System {
  return {
    name: 'nbdcopy',
    volume: 'nbdcopy',
    // It is client and server in one. Each has ended when its run is over.
    cpuSeconds: endedChildrenSeconds,
    exportCpuSeconds: () => exports.cpuSeconds(),
    serve: (files, direction) =>
      Promise.all(
        files.map(async (file) => {
          const { uri } = await exports.open(file, { direction })
          return { file, command: (transfer) => copy(uri, transfer) }
        }),
      ),
    release: () => exports.close(),
  }
}

function copy(uri: string, { direction, local = 'null:' }: Transfer): Command {
  // Uploads are flushed, and not searched for zeroes, as the daemon does it.
  const args = direction === 'GET' ? [uri, local] : ['--flush', '--sparse=0', local, uri]
  return { program: 'nbdcopy', args }
}
