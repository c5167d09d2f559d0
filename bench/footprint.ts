/** What connections cost the daemon in memory: those that are idle, and those with a transfer. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import tls, { type TLSSocket } from 'node:tls'
import { timeCommands } from './command.js'
import { fill } from './images.js'
import { imageioFiles, startImageio, type Imageio } from './imageio.js'
import { peakMiB, residentMiB, restartPeak } from './memory.js'
import { note } from './note.js'
import type { BenchOptions } from './options.js'
import type { Place } from './place.js'
import { table } from './report.js'

export interface FootprintResult {
  readonly title: string
  readonly connections: number
  readonly beforeMiB: number
  readonly duringMiB: number
}

/** Buffers of a connection are given back when it was idle for a second. */
const SETTLE_MS = 3000
/** Opened at a time, as more would wait for each other's handshake. */
const BATCH = 20
const LIMITS = '[limits]\nmax_connections = 4096\nmax_connections_per_address = 4096\n'

export async function measureFootprint(
  place: Place,
  { filter, size, systems }: BenchOptions,
): Promise<FootprintResult[]> {
  const results: FootprintResult[] = []
  if (!systems.has('imageio')) return results
  for (const connections of [200, 1000]) {
    const title = `memory of idle ×${connections} TLS ${place.kind}`
    if (!filter.test(title)) continue
    const imageio = await startImageio(place, LIMITS)
    results.push({ title, connections, ...(await idle(imageio, place, connections)) })
    note(title)
  }
  for (const direction of ['GET', 'PUT'] as const) {
    for (const connections of [1, 4, 16]) {
      const title = `memory of ${direction} ×${connections} TLS ${place.kind}`
      if (!filter.test(title)) continue
      const imageio = await startImageio(place, LIMITS)
      const payload = join(place.store, 'payload')
      const files = Array.from({ length: connections }, (_, i) => join(place.store, `busy-${i}`))
      for (const file of [payload, ...files]) await fill(file, size / connections)
      const targets = await imageioFiles(imageio, 'imageio').serve(files, direction)
      const local = direction === 'PUT' ? { local: payload } : {}
      const beforeMiB = restartPeak(imageio.pid)
      await timeCommands(
        targets.map(({ command }) => command({ direction, transport: 'TLS', ...local })),
      )
      results.push({ title, connections, beforeMiB, duringMiB: peakMiB(imageio.pid) })
      note(title)
      for (const file of [payload, ...files]) await rm(file)
    }
  }
  return results
}

export function formatFootprint(results: readonly FootprintResult[]): string {
  const rows = results.map(({ title, connections, beforeMiB, duringMiB }) => [
    title,
    beforeMiB.toFixed(0),
    duringMiB.toFixed(0),
    (((duringMiB - beforeMiB) * 1024) / connections).toFixed(0),
  ])
  return table(['case', 'MiB before', 'MiB with them', 'KiB each'], rows)
}

/** Each has had a request, as clients do that keep a connection for the next one. */
async function idle({ pid, address }: Imageio, { pki }: Place, connections: number) {
  const [host = '', port] = address.split(':')
  const ca = readFileSync(pki.caFile)
  const sockets: TLSSocket[] = []
  const open = async (): Promise<void> => {
    const socket = tls.connect({ host, port: Number(port), ca, ALPNProtocols: ['http/1.1'] })
    sockets.push(socket)
    await once(socket, 'secureConnect')
    socket.write(`OPTIONS /images/* HTTP/1.1\r\nHost: ${address}\r\n\r\n`)
    await once(socket, 'data')
  }
  const openAll = async (count: number): Promise<void> => {
    for (let begun = 0; begun < count; begun += BATCH) {
      await Promise.all(Array.from({ length: Math.min(BATCH, count - begun) }, open))
    }
    await sleep(SETTLE_MS)
  }
  try {
    await openAll(BATCH) // what the first ones need stays
    const beforeMiB = residentMiB(pid)
    await openAll(connections)
    return { beforeMiB, duringMiB: residentMiB(pid) }
  } finally {
    for (const socket of sockets) socket.destroy()
  }
}
