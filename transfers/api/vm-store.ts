/**
 * Virtual machines that virt-v2v creates when their disks are there. No one here runs them: their
 * definition (OVF) is kept in a file for who does. With each comes a job, which virt-v2v waits for; it is
 * finished from the start.
 */
import { randomUUID } from 'node:crypto'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { makeDirectory } from '../../core/directories/make-directory.js'
import { replaceFile } from '../../core/directories/replace-file.js'
import type { Id } from '../model.js'
import { FaultError } from '../fault.js'
import { parseXml, type XmlElement } from './xml/reader.js'

export interface Vm {
  readonly id: Id
  readonly name: string
}

export interface Job {
  readonly id: Id
  readonly description: string
  readonly correlationId: string
  readonly startedAt: number
}

/** Jobs matter for the minutes in which their client asks; the oldest go first. */
const MAX_JOBS = 256
const MAX_VMS = 10_000
const SUFFIX = '.ovf'
/** Of the name that a client gave, which goes before that in the OVF. */
const NAME_SUFFIX = '.name'

export class VmStore {
  readonly #directory: string | undefined
  readonly #now: () => number
  readonly #jobs: Job[] = []

  constructor(directory: string | undefined, now: () => number) {
    this.#directory = directory
    this.#now = now
  }

  /** Read anew each time: they are few, and their files may be taken away. */
  async vms(): Promise<readonly Vm[]> {
    const directory = this.#directory
    if (directory === undefined) return []
    const names = await readdir(directory).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
      throw error
    })
    const files = names.filter((name) => name.endsWith(SUFFIX)).sort()
    return Promise.all(
      files.map(async (file) => {
        const id = file.slice(0, -SUFFIX.length)
        const text = (suffix: string) => readFile(join(directory, id + suffix), 'utf8')
        const given = await text(NAME_SUFFIX).catch(() => undefined)
        return { id, name: given ?? nameIn(await text(SUFFIX).catch(() => '')) ?? id }
      }),
    )
  }

  jobs(): readonly Job[] {
    return this.#jobs
  }

  /** Stored when it resolves. */
  async add(ovf: string, name: string | undefined, correlationId: string): Promise<Vm> {
    const directory = this.#directory
    if (directory === undefined) {
      throw new FaultError(
        409,
        'Operation Failed',
        'There is no storage domain to keep virtual machines in; configure one',
      )
    }
    const known = name ?? nameIn(ovf)
    if (known === undefined) {
      throw new FaultError(
        400,
        'Invalid value',
        'Neither the request nor its OVF has a name of the virtual machine; give it one',
      )
    }
    if ((await this.vms()).length >= MAX_VMS) {
      throw new FaultError(
        409,
        'Operation Failed',
        'There are too many virtual machines; remove some from the storage domain',
      )
    }
    const vm = { id: randomUUID(), name: known }
    await makeDirectory(directory)
    const nameFile = join(directory, `${vm.id}${NAME_SUFFIX}`)
    try {
      if (name !== undefined) await replaceFile(nameFile, name)
      await replaceFile(join(directory, `${vm.id}${SUFFIX}`), ovf)
    } catch (error) {
      await rm(nameFile, { force: true })
      throw error
    }
    this.#jobs.push({
      id: randomUUID(),
      description: `Creating VM ${vm.name}`,
      correlationId,
      startedAt: this.#now(),
    })
    this.#jobs.splice(0, this.#jobs.length - MAX_JOBS)
    return vm
  }
}

/** Envelope, Content or VirtualSystem, Name; with and without prefixes. */
function nameIn(ovf: string): string | undefined {
  try {
    const system = parseXml(ovf).children.find(({ name }) =>
      ['Content', 'VirtualSystem'].includes(local(name)),
    )
    const name = system?.children.find((child: XmlElement) => local(child.name) === 'Name')
    return name?.text.trim().slice(0, 255) || undefined
  } catch {
    return undefined
  }
}

function local(name: string): string {
  return name.slice(name.indexOf(':') + 1)
}
