/** The engine over a real store and real daemons; time and storage are the test's. */
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { pino } from 'pino'
import type { Test } from 'tap'
import type { Clock } from '../../transfers/clock.js'
import { Hosts, type HostSettings } from '../../transfers/hosts/hosts.js'
import type { Policies, Timers } from '../../transfers/lifecycle/context.js'
import type { NbdServers, Verifier, Volumes } from '../../transfers/lifecycle/ports.js'
import { Manager } from '../../transfers/lifecycle/manager.js'
import type { Disk, Id, NewDisk, NewTransfer, Phase, TransferView } from '../../transfers/model.js'
import { Service } from '../../transfers/service.js'
import { SqliteStore } from '../../transfers/store/sqlite-store.js'
import type { Store } from '../../transfers/store/store.js'
import type { Daemon } from '../support/daemon.js'
import { until } from '../support/wait.js'
import { ManualClock } from './manual-clock.js'
import { FileVolumes, NamedServers, Verdicts } from './storage.js'

export interface EngineOptions {
  readonly daemon?: Pick<Daemon, 'controlSocket' | 'url'>
  readonly hosts?: readonly HostSettings[]
  readonly proxy?: Daemon
  readonly policies?: Partial<Policies>
  readonly timers?: Partial<Timers>
  readonly controlTimeoutMs?: number
  /** Another instance is another name. */
  readonly name?: string
  readonly openStore?: () => Promise<Store>
  /** Goes on with the storage of an engine before. */
  readonly from?: Engine
  readonly dir?: string
  /** Other time, or something in between the engine and its storage. */
  readonly adapt?: {
    readonly clock: Clock
    readonly volumes: (volumes: Volumes) => Volumes
    readonly verifier: (verifier: Verifier) => Verifier
    readonly nbd: (nbd: NbdServers) => NbdServers
  }
}

export const TIMERS: Timers = {
  pollMs: 1000,
  ticketSeconds: 300,
  renewalMs: 240_000,
  graceMs: 60_000,
  proxyCheckMs: 10_000,
  pauseLogMs: 1_800_000,
  successRetentionMs: 900_000,
  failureRetentionMs: 1_800_000,
  expiryMs: 600_000,
  leaseMs: 3_600_000,
}

export class Engine {
  readonly clock: ManualClock
  readonly volumes: FileVolumes
  readonly verifier: Verdicts
  readonly nbd: NamedServers
  readonly dir: string
  readonly store: Store
  readonly hosts: Hosts
  readonly manager: Manager
  readonly service: Service
  #log = ''

  constructor(store: Store, dir: string, options: EngineOptions) {
    const { from, daemon, proxy } = options
    this.store = store
    this.dir = dir
    this.clock = from?.clock ?? new ManualClock()
    this.volumes = from?.volumes ?? new FileVolumes(join(dir, 'volumes'))
    this.verifier = from?.verifier ?? new Verdicts()
    this.nbd = from?.nbd ?? new NamedServers()
    const write = (chunk: Buffer, _: unknown, done: () => void): void => {
      this.#log += chunk.toString()
      done()
    }
    const logger = pino({ level: 'debug' }, new Writable({ write }))
    const { adapt } = options
    const clock = adapt?.clock ?? this.clock
    const volumes = adapt?.volumes(this.volumes) ?? this.volumes
    const verifier = adapt?.verifier(this.verifier) ?? this.verifier
    const nbd = adapt?.nbd(this.nbd) ?? this.nbd
    const timers = { ...TIMERS, ...options.timers }
    const policies = { deleteInvalidDisks: false, protectExistingDisks: false, ...options.policies }
    this.hosts = new Hosts({
      hosts: options.hosts ?? (daemon === undefined ? [] : [hostOf(daemon)]),
      proxy: proxy && { control: { socketPath: proxy.controlSocket }, url: proxy.url },
      controlTimeoutMs: options.controlTimeoutMs ?? 5000,
      removeTimeoutMs: 15_000,
      checkMs: 10_000,
      clock,
      logger,
    })
    const common = { store, hosts: this.hosts, volumes, clock, logger }
    this.manager = new Manager({
      ...common,
      ...{ verifier, nbd, timers, policies },
      name: options.name ?? 'test',
      callMs: 5000,
      onOver: (reason) => logger.fatal(reason.message),
    })
    this.service = new Service({ ...common, manager: this.manager })
  }

  logText(): string {
    return this.#log
  }

  async addDisk(fields: Partial<NewDisk> = {}): Promise<Disk> {
    const { disk, ready } = await this.service.addDisk({ ...NEW_DISK, ...fields })
    await ready
    return disk
  }

  addTransfer(fields: Partial<NewTransfer>, user?: string): Promise<TransferView> {
    return this.service.addTransfer({ ...NEW_TRANSFER, ...fields }, user)
  }

  /** A transfer that is in this phase; seconds pass until it is. */
  async inPhase(id: Id, phase: Phase, { passes = true } = {}): Promise<TransferView> {
    let last: Phase | undefined
    try {
      return await until(
        `transfer in ${phase}`,
        async () => {
          const transfer = await this.service.transfer(id)
          last = transfer?.phase
          if (transfer?.phase === phase) return transfer
          if (passes) this.clock.advance(1000)
          return undefined
        },
        { timeoutMs: 15_000 },
      )
    } catch (cause) {
      throw new Error(`it is ${String(last)}, not ${phase}\n${this.#log}`, { cause })
    }
  }

  /** A new transfer that data can flow for. */
  async transferring(fields: Partial<NewTransfer>): Promise<TransferView> {
    const { id } = await this.addTransfer(fields)
    return this.inPhase(id, 'transferring')
  }

  /** Lets seconds pass, one at a time, and what is due in each be begun. */
  async pass(seconds: number): Promise<void> {
    for (let second = 0; second < seconds; second++) {
      this.clock.advance(1000)
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  async stop(): Promise<void> {
    this.hosts.stop()
    await this.manager.stop()
    await this.store.close()
  }
}

export function hostOf(
  { controlSocket, url }: Pick<Daemon, 'controlSocket' | 'url'>,
  fields: Partial<HostSettings> = {},
): HostSettings {
  return {
    id: 'host',
    name: 'host',
    address: '127.0.0.1',
    hardwareId: undefined,
    control: { socketPath: controlSocket },
    transferUrl: url,
    hasNbdServers: true,
    ...fields,
  }
}

/** Started, and stopped when the test ends. */
export async function startEngine(t: Test, options: EngineOptions = {}): Promise<Engine> {
  const engine = await newEngine(t, options)
  await engine.hosts.start()
  await engine.manager.start()
  let isStopped = false
  const stop = engine.stop.bind(engine)
  engine.stop = async () => {
    if (isStopped) return
    isStopped = true
    await stop()
  }
  t.teardown(() => engine.stop())
  return engine
}

async function newEngine(t: Test, options: EngineOptions): Promise<Engine> {
  const dir = options.from?.dir ?? options.dir ?? t.testdir()
  const { openStore = () => SqliteStore.open(join(dir, 'transfers.sqlite')) } = options
  return new Engine(await openStore(), dir, options)
}

const NEW_DISK: NewDisk = {
  id: undefined,
  imageId: undefined,
  name: undefined,
  description: '',
  format: 'raw',
  provisionedSize: 65536,
  initialSize: undefined,
  sparse: true,
  backup: 'none',
  contentType: 'data',
  shareable: false,
  propagateErrors: false,
  wipeAfterDelete: false,
  storageDomain: undefined,
}

const NEW_TRANSFER: NewTransfer = {
  diskId: undefined,
  imageId: undefined,
  direction: 'upload',
  hostId: undefined,
  format: undefined,
  shallow: false,
  inactivityTimeout: 60,
  timeoutPolicy: 'legacy',
}
