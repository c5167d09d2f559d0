/** A proxy with few buffers, and what takes them. */
import { type Test } from 'tap'
import { KiB, MiB } from '../../../core/units.js'
import { startDaemon, type Daemon } from '../../support/daemon.js'
import { startFakeDaemon, type FakeDaemon } from '../../support/fake-daemon.js'
import { Pair, startProxy } from '../../support/proxy.js'
import { until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'
import { addTicket } from './fake-tickets.js'

export const HOST = 'Host: localhost\r\n'
const isNative = process.env['IMAGEIO_TEST_NATIVE'] !== 'off'
const PIECE = isNative ? MiB : 256 * KiB
/** Buffers there are. */
export const COUNT = 4
const LIMITS = { buffer_memory: COUNT * PIECE }

interface Proxied {
  readonly daemon: Daemon
  readonly proxy: Daemon
  readonly pair: Pair
}

export async function start(
  t: Test,
  limits: Record<string, number>,
  proxied = {},
): Promise<Proxied> {
  const daemon = await startDaemon(t)
  const proxy = await startProxy(t, {
    limits: { ...LIMITS, ...limits },
    proxy: { allow_http: true, ...proxied },
  })
  return { daemon, proxy, pair: new Pair(daemon, proxy) }
}

export const put = (url: string, size = 64 * MiB): string =>
  `PUT ${url} HTTP/1.1\r\n${HOST}Content-Length: ${size}\r\n\r\n`
export const get = (url: string): string => `GET ${url} HTTP/1.1\r\n${HOST}\r\n`

export async function ask(t: Test, proxy: Daemon, head: string, isReading = true): Promise<Wire> {
  const wire = await Wire.open(proxy.remote, { isReading })
  t.teardown(() => wire.destroy())
  await wire.send(head)
  return wire
}

/** Uploads that send nothing, each with one buffer, all of which there are. */
export async function takeAll(t: Test, proxy: Daemon, fake: FakeDaemon): Promise<Wire[]> {
  const url = await addTicket(proxy, fake, { size: 64 * MiB })
  const wires: Wire[] = []
  for (let count = 0; count < COUNT; count++) wires.push(await ask(t, proxy, put(url)))
  await until('each has a buffer, and so a connection', () => fake.open() === COUNT)
  return wires
}

/** No more has moved for a moment. */
export async function stalled(proxy: Daemon, id: string): Promise<void> {
  let [before, since] = [-1, performance.now()]
  await until('it stalls', async () => {
    const { transferred = 0 } = await proxy.ticket(id)
    if (transferred !== before) [before, since] = [transferred, performance.now()]
    return performance.now() - since > 300
  })
}

/** None is lost: all are there to be taken. */
export async function allAreFree(t: Test, proxy: Daemon, what: string): Promise<void> {
  const fake = await startFakeDaemon(t, () => undefined)
  for (const wire of await takeAll(t, proxy, fake)) wire.destroy()
  await until('they are given back', () => fake.open() === 0)
  t.pass(`all buffers are free after: ${what}`)
}
