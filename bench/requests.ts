/**
 * Small requests over TLS: how many a second, how long one takes, also beside transfers that take all
 * they can get.
 */
import { spawn } from 'node:child_process'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { MiB } from '../core/units.js'
import { isInstalled, outputOf } from './command.js'
import { cpuSeconds } from './cpu.js'
import { curlTransfer } from './curl.js'
import { fill } from './images.js'
import { startImageio, type Imageio } from './imageio.js'
import { startNginxFiles } from './nginx.js'
import type { BenchOptions } from './options.js'
import type { Place } from './place.js'
import type { RequestsResult, RequestsRun, RequestTimes } from './report.js'
import type { Direction } from './system.js'
import { takeTurns, type Contender } from './turns.js'

interface Case {
  readonly name: string
  readonly connections: number
  readonly request: (path: string, host: string) => string
  /** Four of them at the same time. */
  readonly beside?: Direction
  /** Whether a server of files can do it. */
  readonly isPlain?: boolean
}

const get = (path: string, host: string): string =>
  `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nRange: bytes=4096-8191\r\n\r\n`
const options = (path: string, host: string): string =>
  `OPTIONS ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`
const zero = (path: string, host: string): string => {
  const body = '{"op":"zero","offset":4096,"size":4096}'
  return `PATCH ${path} HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${body.length}\r\n\r\n${body}`
}

const CASES: readonly Case[] = [
  { name: 'GET 4 KiB ×1', connections: 1, request: get, isPlain: true },
  { name: 'GET 4 KiB ×8', connections: 8, request: get, isPlain: true },
  { name: 'zero 4 KiB ×8', connections: 8, request: zero },
  { name: 'OPTIONS ×8', connections: 8, request: options },
  { name: 'OPTIONS ×1 beside 4 GET', connections: 1, request: options, beside: 'GET' },
  { name: 'OPTIONS ×1 beside 4 PUT', connections: 1, request: options, beside: 'PUT' },
]

const STREAMS = 4
const IMAGE_SIZE = 256 * MiB

export async function measureRequests(
  place: Place,
  { filter, runs, systems, seconds }: BenchOptions,
): Promise<RequestsResult[]> {
  const wanted = CASES.map((one) => ({ one, title: `requests ${one.name} ${place.kind}` })).filter(
    ({ title }) => filter.test(title),
  )
  const results: RequestsResult[] = []
  if (wanted.length === 0) return results
  const file = join(place.store, 'requests')
  await fill(file, IMAGE_SIZE)
  const servers: Server[] = []
  if (systems.has('imageio')) servers.push(await imageioServer(await startImageio(place), file))
  if (systems.has('nginx') && isInstalled('nginx')) servers.push(await nginxServer(place, file))
  for (const { one, title } of wanted) {
    const contenders = servers
      .filter(({ isPlain }) => !isPlain || one.isPlain === true)
      .map((server) => contender(server, one, place, seconds))
    const outcomes = await takeTurns(title, contenders, runs)
    results.push(...outcomes.map(({ name, runs }) => ({ title, system: name, runs })))
  }
  await rm(file)
  return results
}

interface Server {
  readonly name: string
  readonly pid: number
  readonly address: string
  readonly path: string
  /** It knows nothing but files. */
  readonly isPlain: boolean
}

async function imageioServer({ pid, address, install }: Imageio, file: string): Promise<Server> {
  const path = await install(`file://${file}`, IMAGE_SIZE, 'PUT')
  return { name: 'imageio', pid, address, path, isPlain: false }
}

async function nginxServer(place: Place, file: string): Promise<Server> {
  const { pid, address } = await startNginxFiles(place)
  return { name: 'nginx', pid, address, path: file.slice(place.store.length), isPlain: true }
}

function contender(
  server: Server,
  one: Case,
  place: Place,
  seconds: number,
): Contender<RequestsRun> {
  const run = async (): Promise<RequestsRun> => {
    const stop = one.beside === undefined ? undefined : startStreams(server, one.beside, place)
    const before = cpuSeconds(server.pid)
    const times = await requestTimes(server, one, place.pki.caFile, seconds)
    const cpu = cpuSeconds(server.pid) - before
    await stop?.()
    return { ...times, ...(one.beside === undefined ? { cpuSeconds: cpu } : {}) }
  }
  return {
    name: server.name,
    verify: async () => {
      await run()
    },
    run,
  }
}

async function requestTimes(
  { address, path }: Server,
  { connections, request }: Case,
  caFile: string,
  seconds: number,
): Promise<RequestTimes> {
  const [host = '', port] = address.split(':')
  const text = request(path, address)
  const load = { host, port: Number(port), caFile, connections, seconds, request: text }
  const program = fileURLToPath(new URL('request-client.js', import.meta.url))
  const output = await outputOf({
    program: process.execPath,
    args: [program, JSON.stringify(load)],
  })
  return JSON.parse(output.toString()) as RequestTimes
}

/** Transfers until they are stopped, one curl each, which begins again and again. */
function startStreams({ address, path }: Server, direction: Direction, place: Place) {
  const local = direction === 'PUT' ? { local: join(place.store, 'requests') } : {}
  const where = ['--cacert', place.pki.caFile, `https://${address}${path}`]
  const { program, args } = curlTransfer({ direction, transport: 'TLS', ...local }, where)
  let isStopped = false
  const streams = Array.from({ length: STREAMS }, () => {
    let current: ReturnType<typeof spawn>
    const ended = new Promise<void>((resolve) => {
      const next = (): void => {
        current = spawn(program, args, { stdio: 'ignore' })
        current.once('close', () => (isStopped ? resolve() : next()))
      }
      next()
    })
    return { ended, kill: () => current.kill() }
  })
  return async (): Promise<void> => {
    isStopped = true
    for (const { kill } of streams) kill()
    await Promise.all(streams.map(({ ended }) => ended))
  }
}
