/** The storage side as the lifecycle sees it: plain files, verdicts and servers as the test wants them. */
import { existsSync, mkdirSync } from 'node:fs'
import { rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type {
  NbdServers,
  Verdict,
  Verifier,
  VolumeFacts,
  VolumeFile,
  Volumes,
} from '../../transfers/lifecycle/ports.js'
import type { Disk, Id, StorageDomain, Transfer } from '../../transfers/model.js'

const GiB = 2 ** 30

export class FileVolumes implements Volumes {
  readonly #dir: string
  domain: StorageDomain
  /** Rejects instead of what is asked. */
  fault: Error | undefined
  creationFault: Error | undefined
  factsFault: Error | undefined
  flushFault: Error | undefined

  constructor(dir: string) {
    mkdirSync(dir, { recursive: true })
    this.#dir = dir
    const [available, used] = [100 * GiB, 0]
    this.domain = { id: 'domain', name: 'one', path: dir, status: 'active', available, used }
  }

  domains(): Promise<readonly StorageDomain[]> {
    return Promise.resolve([this.domain])
  }

  claim(): Promise<boolean> {
    return Promise.resolve(true)
  }

  files(): Promise<readonly VolumeFile[]> {
    return Promise.resolve([])
  }

  async create(disk: Disk): Promise<VolumeFacts> {
    this.#check()
    if (this.creationFault !== undefined) throw this.creationFault
    await writeFile(this.path(disk), '')
    await truncate(this.path(disk), disk.provisionedSize)
    return this.facts(disk)
  }

  flush(): Promise<void> {
    this.#check()
    return this.flushFault === undefined ? Promise.resolve() : Promise.reject(this.flushFault)
  }

  async grow(disk: Disk): Promise<VolumeFacts> {
    this.#check()
    await truncate(this.path(disk), disk.provisionedSize)
    return this.facts(disk)
  }

  async remove(disk: Disk): Promise<void> {
    this.#check()
    await rm(this.path(disk), { force: true })
  }

  url(disk: Disk): string {
    return `file://${this.path(disk)}`
  }

  async facts(disk: Disk): Promise<VolumeFacts> {
    this.#check()
    if (this.factsFault !== undefined) throw this.factsFault
    const { size: length, blocks } = await stat(this.path(disk))
    return { length, allocated: blocks * 512 }
  }

  path({ id }: { readonly id: Id }): string {
    return join(this.#dir, id)
  }

  has(id: Id): boolean {
    return existsSync(this.path({ id }))
  }

  #check(): void {
    if (this.fault !== undefined) throw this.fault
  }
}

export class Verdicts implements Verifier {
  verdict: Verdict | Error = { ok: true }
  /** Nobody's turn comes. */
  isBusy = false
  readonly asked: Id[] = []
  #stopped = Promise.withResolvers<never>()

  verify({ id }: Disk): Promise<Verdict> {
    this.asked.push(id)
    if (this.isBusy) return this.#stopped.promise
    const { verdict } = this
    return verdict instanceof Error ? Promise.reject(verdict) : Promise.resolve(verdict)
  }

  stop(): void {
    this.#stopped.promise.catch(() => undefined)
    this.#stopped.reject(new Error('stopped'))
    this.#stopped = Promise.withResolvers()
  }
}

/** No process; the daemon does not connect before a client asks for data. */
export class NamedServers implements NbdServers {
  readonly alive = new Set<Id>()
  readonly started: Id[] = []
  readonly stopped: Id[] = []
  fault: Error | undefined
  /** Starting takes this long. */
  whenStarted: () => Promise<void> = () => Promise.resolve()

  async start({ id }: Transfer): Promise<{ url: string; isNew: boolean }> {
    if (this.fault !== undefined) throw this.fault
    const isNew = !this.alive.has(id)
    if (isNew) this.started.push(id)
    this.alive.add(id)
    await this.whenStarted()
    return { url: `nbd:unix:/nonexistent/${id}.sock`, isNew }
  }

  stop(id: Id): Promise<void> {
    this.alive.delete(id)
    this.stopped.push(id)
    return Promise.resolve()
  }

  isAlive(id: Id): Promise<boolean> {
    return Promise.resolve(this.alive.has(id))
  }

  running(): Promise<readonly Id[]> {
    return Promise.resolve([...this.alive])
  }
}
