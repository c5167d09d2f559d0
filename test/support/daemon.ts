/**
 * The real daemon, started by its launcher as an administrator starts it, with everything it needs in
 * one temporary directory. What ends the test ends the daemon, and looks whether it ended well.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { request, type Reply } from './http.js'
import { testPki, type Pki } from './pki.js'
import { until, within } from './wait.js'
import { Wire, type Target } from './wire.js'

const BIN = join(process.cwd(), 'bin')

/** IMAGEIO_TEST_NATIVE=off runs the same tests without the native front. */
const NATIVE = process.env['IMAGEIO_TEST_NATIVE'] ?? 'auto'

export type Sections = Readonly<Record<string, Readonly<Record<string, string | number | boolean>>>>

export type ProgramName = 'imageio-daemon' | 'imageio-proxy'

export interface DaemonOptions {
  readonly program?: ProgramName
  /** Its own authority and certificate. */
  readonly pki?: Pki
  readonly tls?: boolean
  /** Over the defaults of this file, option by option. */
  readonly config?: Sections
  /** Network namespace to run in. */
  readonly netns?: string
  /** More command line. */
  readonly args?: readonly string[]
  /** Services that are not where they are by default, so that nobody waits for them there. */
  readonly skips?: readonly ('remote' | 'local' | 'control')[]
  /** Reuse the directory, and so the ports and sockets, of a daemon before. */
  readonly from?: Daemon
}

export interface TicketInfo {
  readonly uuid: string
  readonly size: number
  readonly url: string
  readonly ops: string[]
  readonly timeout: number
  readonly inactivity_timeout: number
  readonly transfer_id: string
  readonly active: boolean
  readonly canceled: boolean
  readonly connections: number
  readonly expires: number
  readonly idle_time: number
  readonly transferred?: number
  readonly unfinished?: number
  readonly missing?: readonly (readonly number[])[]
}

/** Name, state and where it waits, of each thread. */
function threadsOf(pid: number): string {
  const tasks = `/proc/${pid}/task`
  const read = (task: string, name: string): string =>
    readFileSync(join(tasks, task, name), 'latin1').trim()
  try {
    return readdirSync(tasks)
      .map((task) => `${read(task, 'stat').split(' ', 3).join(' ')} ${read(task, 'wchan')}`)
      .join('\n')
  } catch (error) {
    return String(error)
  }
}

export type TicketFields = Record<string, unknown>

export interface TestImage {
  /** The ticket. */
  readonly id: string
  /** '/images/{id}'. */
  readonly url: string
  readonly file: string
  /** What is in the file now. */
  bytes(): Buffer
}

/** Long enough that a log with it in full gives a secret away. */
const SECRET_LENGTH = 20

export class Daemon {
  readonly dir: string
  readonly port: number
  readonly url: string
  readonly ca: string
  readonly caFile: string
  readonly remote: Target
  readonly local: Target
  readonly control: Target
  /** Abstract: begins with NUL. */
  readonly localSocket: string
  readonly controlSocket: string
  readonly process: ChildProcess
  readonly #pki: Pki
  readonly #exited: Promise<number | string>
  readonly #secrets: string[] = []
  #log = ''

  constructor(dir: string, port: number, localSocket: string, options: DaemonOptions) {
    const { pki = testPki() } = options
    const { caFile, ca } = pki
    this.#pki = pki
    const isTls = options.tls ?? true
    this.dir = dir
    this.port = port
    this.ca = ca
    this.caFile = caFile
    this.url = `${isTls ? 'https' : 'http'}://127.0.0.1:${port}`
    this.localSocket = localSocket
    this.controlSocket = join(dir, 'run', 'sock')
    this.remote = { host: '127.0.0.1', port, ...(isTls ? { ca } : {}) }
    this.local = { path: localSocket }
    this.control = { path: this.controlSocket }
    writeConfig(dir, merge(this.#defaults(isTls), options.config ?? {}))
    const args = ['--conf-dir', dir, ...(options.args ?? [])]
    const [command, words] = daemonCommand(args, options.program)
    const { netns } = options
    const line: [string, string[]] =
      netns === undefined ? [command, words] : ['ip', ['netns', 'exec', netns, command, ...words]]
    this.process = spawn(...line, {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => void (this.#log += text))
    }
    this.#exited = new Promise((resolve) => {
      this.process.once('error', (error) => resolve(error.message))
      this.process.once('exit', (code, signal) => resolve(code ?? signal ?? 'unknown'))
    })
  }

  get pid(): number {
    return this.process.pid ?? -1
  }

  get isRunning(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null
  }

  logText(): string {
    return this.#log
  }

  /** Exit status, or the name of the signal. */
  exited(timeoutMs = 10_000): Promise<number | string> {
    return within('exit of the daemon', timeoutMs, this.#exited).catch((error: unknown) => {
      const log = this.#log.slice(-2000)
      throw new Error(`${(error as Error).message}\n${threadsOf(this.pid)}\n${log}`, {
        cause: error,
      })
    })
  }

  /** SIGTERM, and an error when the daemon does not end with 0, or its log tells secrets. */
  async stop(): Promise<void> {
    const wasRunning = this.isRunning
    if (wasRunning) this.process.kill('SIGTERM')
    try {
      const status = await this.exited()
      if (wasRunning && status !== 0) {
        throw new Error(`the daemon ended with ${status}:\n${this.#log.slice(-4000)}`)
      }
    } finally {
      this.process.kill('SIGKILL')
    }
    const told = this.#secrets.filter((id) => this.#log.includes(id))
    if (told.length > 0) {
      const line = this.#log.split('\n').find((text) => text.includes(told[0] ?? ''))
      throw new Error(`the log has the ids of ${told.length} tickets in full: ${line}`)
    }
  }

  /** Writes the configuration anew, for SIGHUP. */
  configure(config: Sections): void {
    writeConfig(this.dir, merge(this.#defaults('ca' in this.remote), config))
  }

  controlRequest(method: string, path: string, body?: unknown): Promise<Reply> {
    const json = body === undefined || typeof body === 'string' ? body : JSON.stringify(body)
    return request(this.control, method, path, json === undefined ? {} : { body: json })
  }

  /** Adds a ticket; what is not given is valid. */
  async addTicket(fields: TicketFields): Promise<string> {
    const ticket = { ...ticketFields(), ...fields }
    const { uuid } = ticket
    if (uuid.length >= SECRET_LENGTH) this.#secrets.push(uuid)
    const path = `/tickets/${encodeURIComponent(uuid)}`
    const reply = await this.controlRequest('PUT', path, ticket)
    if (reply.status !== 200) throw new Error(`adding a ticket: ${reply.status} ${reply.text}`)
    return uuid
  }

  /** A file with this content and a ticket for it. */
  async addImage(content: Buffer | number = 8192, fields: TicketFields = {}): Promise<TestImage> {
    const file = join(this.dir, `image-${randomUUID()}`)
    const bytes = typeof content === 'number' ? randomBytes(content) : content
    writeFileSync(file, bytes)
    return this.addTicketFor(file, { size: bytes.length, ...fields })
  }

  async addTicketFor(file: string, fields: TicketFields): Promise<TestImage> {
    const id = await this.addTicket({ url: `file://${file}`, ...fields })
    const url = `/images/${encodeURIComponent(id)}`
    return { id, url, file, bytes: () => readFileSync(file) }
  }

  async ticket(id: string): Promise<TicketInfo> {
    const reply = await this.controlRequest('GET', `/tickets/${encodeURIComponent(id)}`)
    if (reply.status !== 200) throw new Error(`reading a ticket: ${reply.status} ${reply.text}`)
    return reply.json as TicketInfo
  }

  /** The ticket once it is as described. */
  ticketWhen(id: string, what: string, is: (info: TicketInfo) => boolean): Promise<TicketInfo> {
    return until(what, async () => {
      const info = await this.ticket(id)
      return is(info) && info
    })
  }

  /** Whether this process has the file open. */
  async holds(file: string): Promise<boolean> {
    const { readdir, readlink } = await import('node:fs/promises')
    const dir = `/proc/${this.pid}/fd`
    const links = (await readdir(dir)).map((fd) => readlink(join(dir, fd)).catch(() => ''))
    return (await Promise.all(links)).includes(file)
  }

  /** Resident memory in bytes. */
  residentSize(): number {
    const status = readFileSync(`/proc/${this.pid}/status`, 'utf8')
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024
  }

  /** Resolves when every socket accepts. */
  async listening(expected: readonly Target[]): Promise<void> {
    try {
      for (const target of expected) {
        await until('the daemon listens', () => this.#accepts(target), { timeoutMs: 15_000 })
      }
    } catch (cause) {
      throw new Error(`the daemon did not start:\n${this.#log}`, { cause })
    }
  }

  async #accepts(target: Target): Promise<boolean> {
    if (!this.isRunning) throw new Error('the daemon has ended')
    try {
      const wire = await Wire.open(target)
      wire.destroy()
      return true
    } catch {
      return false
    }
  }

  #defaults(isTls: boolean): Sections {
    const { caFile, certFile, keyFile } = this.#pki
    return {
      daemon: {
        run_dir: join(this.dir, 'run'),
        drop_privileges: false,
        systemd_enable: false,
        shutdown_timeout: 2,
      },
      tls: isTls ? { key_file: keyFile, cert_file: certFile, ca_file: caFile } : { enable: false },
      remote: { host: '127.0.0.1', port: this.port },
      local: { socket: this.localSocket.replace('\0', '@') },
      control: { socket: this.controlSocket, remove_timeout: 5 },
      handlers: { keys: 'stderr' },
      logger_root: { level: 'DEBUG', handlers: 'stderr' },
      transport: { native: NATIVE },
    }
  }
}

/** A daemon that accepts on all its sockets, stopped when the test ends. */
export async function startDaemon(t: Test, options: DaemonOptions = {}): Promise<Daemon> {
  const { from } = options
  const dir = from?.dir ?? mkdtempSync(join(tmpdir(), 'imageio-test-'))
  mkdirSync(join(dir, 'run'), { recursive: true })
  const name = from?.localSocket ?? `\0imageio-test-${randomBytes(8).toString('hex')}`
  const daemon = new Daemon(dir, from?.port ?? (await freePort()), name, options)
  t.teardown(async () => {
    try {
      await daemon.stop()
    } finally {
      rmSync(dir, { recursive: true, force: true })
    }
  })
  const { skips = [] } = options
  const services = (['remote', 'local', 'control'] as const).filter((name) => !skips.includes(name))
  await daemon.listening(services.map((name) => daemon[name]))
  return daemon
}

/**
 * Command and arguments of the daemon, without what the test runner adds for Node to every process it
 * starts: the daemon would write into the runner's directory. `env` becomes the launcher.
 */
export function daemonCommand(
  args: readonly string[],
  program: ProgramName = 'imageio-daemon',
): [string, string[]] {
  return ['env', ['-u', 'NODE_OPTIONS', join(BIN, program), ...args]]
}

/** A valid ticket for an image that does not exist. */
export function ticketFields(): TicketFields & { uuid: string } {
  const ops = ['read', 'write']
  return { uuid: randomUUID(), size: 8192, ops, timeout: 300, url: 'file:///nonexistent/image' }
}

/** A port nobody listens on at this moment. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = net.createServer().once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as net.AddressInfo
      server.close(() => resolve(port))
    })
  })
}

export function writeConfig(dir: string, sections: Sections, name = '50-test.conf'): void {
  mkdirSync(join(dir, 'conf.d'), { recursive: true })
  const text = Object.entries(sections).map(([section, options]) =>
    [`[${section}]`, ...Object.entries(options).map(([key, value]) => `${key} = ${value}`)].join(
      '\n',
    ),
  )
  writeFileSync(join(dir, 'conf.d', name), `${text.join('\n\n')}\n`)
}

function merge(base: Sections, over: Sections): Sections {
  const names = new Set([...Object.keys(base), ...Object.keys(over)])
  return Object.fromEntries([...names].map((name) => [name, { ...base[name], ...over[name] }]))
}
