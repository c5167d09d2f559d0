/** The real transfer service, started by its launcher, in front of a real daemon and a real proxy. */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { NbdServers } from '../../transfers/nbd/nbd-servers.js'
import { freePort, startDaemon, writeConfig, type Daemon, type Sections } from './daemon.js'
import { testPki } from './pki.js'
import { run } from './tools.js'
import { until, within } from './wait.js'
import type { Target } from './wire.js'

const LAUNCHER = join(process.cwd(), 'bin', 'imageio-transfers')
const USER = 'admin@internal'
const PASSWORD = 'secret'

export interface SystemOptions {
  /** [transfers], over what is needed here. */
  readonly transfers?: Readonly<Record<string, string | number | boolean>>
  /** More sections. */
  readonly sections?: (daemon: Daemon) => Sections
  readonly daemon?: Sections
  /** Name of the storage domain; `default` unless given. */
  readonly domain?: string
}

/** A reply as curl got it. */
export interface CurlReply {
  readonly status: number
  readonly text: string
}

/** Daemon, proxy and transfer service of one machine, with one authority. */
export class TransferSystem {
  readonly dir: string
  readonly caFile = testPki().caFile
  daemon: Daemon
  readonly proxy: Daemon
  readonly port: number
  /** Of tickets that clients have seen: no log may have them. */
  readonly secrets = new Set<string>()
  #child: ChildProcess | undefined
  #log = ''

  constructor(dir: string, daemon: Daemon, proxy: Daemon, port: number) {
    this.dir = dir
    this.daemon = daemon
    this.proxy = proxy
    this.port = port
  }

  get images(): string {
    return join(this.dir, 'images')
  }

  get url(): string {
    return `https://127.0.0.1:${this.port}/ovirt-engine/api`
  }

  /** Of the API. */
  get target(): Target {
    return { host: '127.0.0.1', port: this.port, ca: testPki().ca }
  }

  logText(): string {
    return this.#log
  }

  configure({ transfers = {}, sections: more = () => ({}), domain }: SystemOptions): void {
    const { certFile, keyFile } = testPki()
    const sections: Sections = {
      daemon: { systemd_enable: false, shutdown_timeout: 2 },
      tls: { key_file: keyFile, cert_file: certFile, ca_file: this.caFile },
      transfers: {
        host: '127.0.0.1',
        port: this.port,
        database: join(this.dir, 'db', 'transfers.sqlite'),
        run_dir: join(this.dir, 'run'),
        storage_dir: domain === undefined ? this.images : '',
        password_file: join(this.dir, 'passwords'),
        host_id: '456',
        control_socket: this.daemon.controlSocket,
        transfer_url: this.daemon.url,
        proxy_control_socket: this.proxy.controlSocket,
        proxy_url: this.proxy.url,
        poll_interval: 0.05,
        host_check_interval: 1,
        proxy_check_interval: 1,
        ...transfers,
      },
      handlers: { keys: 'stderr' },
      logger_root: { level: 'DEBUG', handlers: 'stderr' },
      ...(domain === undefined ? {} : this.#domainSection(domain)),
      ...more(this.daemon),
    }
    writeConfig(this.dir, sections)
  }

  #domainSection(name: string): Sections {
    return { [`storage_domain_${name}`]: { id: DOMAIN_ID, path: this.images } }
  }

  /** `imageio-transfers ARGS`, with this on its standard input. */
  async command(args: readonly string[], input: string): Promise<number> {
    const child = spawn('env', ['-u', 'NODE_OPTIONS', LAUNCHER, ...args], { stdio: 'pipe' })
    child.stderr.setEncoding('utf8').on('data', (text: string) => void (this.#log += text))
    child.stdin.end(input)
    return new Promise((resolve) => child.once('exit', (code) => resolve(code ?? -1)))
  }

  setPassword(password = PASSWORD, user = USER): Promise<number> {
    return this.command(['passwd', '-c', this.dir, user], `${password}\n`)
  }

  /** Resolves when it serves. */
  async start(): Promise<void> {
    const begin = this.#log.length
    const child = spawn('env', ['-u', 'NODE_OPTIONS', LAUNCHER, '-c', this.dir], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#child = child
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => void (this.#log += text))
    }
    const isReady = (): boolean => {
      if (child.exitCode !== null) throw new Error(`the service has ended:\n${this.#log}`)
      return this.#log.slice(begin).includes('"msg":"ready"')
    }
    await until('the transfer service is ready', isReady, { timeoutMs: 15_000 })
  }

  /** SIGHUP; resolves when it was heeded. */
  async reload(): Promise<void> {
    const begin = this.#log.length
    this.signal('SIGHUP')
    await until('the reload', () => this.#log.slice(begin).includes('certificate reloaded'))
  }

  signal(name: NodeJS.Signals): void {
    this.#child?.kill(name)
  }

  async kill(): Promise<void> {
    await this.#end('SIGKILL')
  }

  /** SIGTERM, and an error unless it ends well. */
  async stop(): Promise<void> {
    const status = await this.#end('SIGTERM')
    if (status !== undefined && status !== 0) {
      throw new Error(`the transfer service ended with ${status}:\n${this.#log.slice(-4000)}`)
    }
    const told = [...this.secrets].filter((id) => this.#log.includes(id))
    if (told.length > 0) throw new Error('the log has ids of tickets in full')
  }

  get #nbd(): NbdServers {
    return new NbdServers({ runDir: join(this.dir, 'run') })
  }

  /** Transfers that have a server, or something left of one. */
  nbdServers(): Promise<readonly string[]> {
    return this.#nbd.list()
  }

  /** The process of a server that listens. */
  async nbdServer(transfer: string): Promise<number | undefined> {
    return (await this.#nbd.find(transfer))?.pid
  }

  /** Of transfers that a test left as they were: they outlive the service. */
  async stopNbdServers(): Promise<void> {
    for (const id of await this.nbdServers()) await this.#nbd.stop(id)
  }

  /** Same sockets and port; tickets are gone. */
  async restartDaemon(t: Test): Promise<void> {
    this.daemon = await startDaemon(t, { from: this.daemon })
  }

  /** curl as the documentation has it, with name and password. */
  async curl(...args: string[]): Promise<CurlReply> {
    const common = ['--silent', '--show-error', '--cacert', this.caFile]
    const login = ['--user', `${USER}:${PASSWORD}`, '--write-out', '\n%{http_code}']
    const said = await run('curl', [...common, ...login, ...args])
    const end = said.lastIndexOf('\n')
    return { status: Number(said.slice(end + 1)), text: said.slice(0, end) }
  }

  get(path: string, ...args: string[]): Promise<CurlReply> {
    return this.curl(...args, `${this.url}/${path}`)
  }

  async post(path: string, body: string, type = 'application/xml'): Promise<string> {
    const header = ['-H', `Content-Type: ${type}`, '-H', `Accept: ${type}`]
    const { status, text } = await this.curl(...header, '--data', body, `${this.url}/${path}`)
    if (status < 200 || status > 202) throw new Error(`POST ${path}: ${status} ${text}`)
    return text
  }

  /** A disk that is ready for an upload. */
  async addDisk(id: string, format: 'raw' | 'cow', size: number): Promise<void> {
    await this.post('disks', diskXml(id, format, size))
    await this.diskStatus(id, 'ok')
  }

  diskStatus(id: string, status: string): Promise<string> {
    return until(`disk ${id} is ${status}`, async () => {
      const { text } = await this.get(`disks/${id}`)
      return tag(text, 'status') === status && text
    })
  }

  /** Begins a transfer and polls it as the documentation tells to. */
  async transferring(more: string): Promise<SeenTransfer> {
    const made = await this.post('imagetransfers', `<image_transfer>${more}</image_transfer>`)
    const id = idOf(made)
    const text = await this.phase(id, 'transferring')
    return this.seen(id, text)
  }

  seen(id: string, text: string): SeenTransfer {
    const url = tag(text, 'transfer_url') ?? ''
    const ticket = url.slice(url.lastIndexOf('/') + 1)
    if (ticket !== '') this.secrets.add(ticket)
    return { id, url, proxyUrl: tag(text, 'proxy_url') ?? '', ticket }
  }

  async phase(id: string, phase: string): Promise<string> {
    let last = ''
    try {
      return await until(
        `transfer in ${phase}`,
        async () => {
          last = (await this.get(`imagetransfers/${id}`)).text
          return tag(last, 'phase') === phase && last
        },
        { timeoutMs: 20_000 },
      )
    } catch (cause) {
      throw new Error(`it is ${last}, not ${phase}:\n${this.#log.slice(-6000)}`, { cause })
    }
  }

  act(id: string, action: string): Promise<string> {
    return this.post(`imagetransfers/${id}/${action}`, '<action/>')
  }

  /** `curl --upload-file FILE -X PUT URL` */
  upload(url: string, file: string, ...args: string[]): Promise<CurlReply> {
    return this.curl(...args, '--upload-file', file, '-X', 'PUT', url)
  }

  download(url: string, file: string): Promise<CurlReply> {
    return this.curl(url, '-o', file)
  }

  async #end(signal: NodeJS.Signals): Promise<number | undefined> {
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = new Promise<number>((resolve) =>
      child.once('exit', (code) => resolve(code ?? -1)),
    )
    child.kill(signal)
    return within('exit of the transfer service', 15_000, exited).finally(() =>
      child.kill('SIGKILL'),
    )
  }
}

export interface SeenTransfer {
  readonly id: string
  readonly url: string
  readonly proxyUrl: string
  readonly ticket: string
}

/** Everything runs, and is stopped when the test ends. */
export async function startSystem(t: Test, options: SystemOptions = {}): Promise<TransferSystem> {
  const daemon = await startDaemon(t, { config: options.daemon ?? {} })
  const proxy = await startDaemon(t, {
    program: 'imageio-proxy',
    config: {
      backend_http: { ca_file: testPki().caFile },
      proxy: { allowed_daemons: '127.0.0.1:*', use_local_socket: false },
    },
  })
  const dir = mkdtempSync(join(tmpdir(), 'imageio-transfers-'))
  for (const name of ['images', 'run']) mkdirSync(join(dir, name))
  const system = new TransferSystem(dir, daemon, proxy, await freePort())
  t.teardown(async () => {
    try {
      await system.stop()
    } finally {
      await system.stopNbdServers()
      rmSync(dir, { recursive: true, force: true })
    }
  })
  system.configure(options)
  await system.setPassword()
  await system.start()
  return system
}

/** The documentation's body of POST /disks, with an id. */
export function diskXml(id: string, format: 'raw' | 'cow', size: number, initial = size): string {
  return `<disk id="${id}">
  <storage_domains>
    <storage_domain id="${DOMAIN_ID}"/>
  </storage_domains>
  <alias>mydisk</alias>
  <initial_size>${initial}</initial_size>
  <provisioned_size>${size}</provisioned_size>
  <format>${format}</format>
</disk>`
}

/** Made from the name `default`, so it is the same wherever it runs. */
export const DOMAIN_ID = '36ab2264-c4fe-85ea-9cdc-4bb52f9626c0'

export function tag(text: string, name: string): string | undefined {
  return new RegExp(`<${name}>([^<]*)</${name}>`).exec(text)?.[1]
}

export function idOf(text: string): string {
  return / id="([^"]+)"/.exec(text)?.[1] ?? ''
}

/** A file in the directory of the system. */
export function putFile(system: TransferSystem, name: string, bytes: Buffer): string {
  const file = join(system.dir, name)
  writeFileSync(file, bytes)
  return file
}
