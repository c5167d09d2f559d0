/** A virtual machine with one disk, whose processor stands still: the tests are its guest. */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { Qmp } from './qmp.js'
import { run } from './tools.js'
import { until } from './wait.js'

const DISK = 'disk'
const SCRATCH = 'scratch'
const BACKUP = 'backup'

export interface Checkpoint {
  /** The bitmap that begins now. */
  readonly begins: string
  /** The one that ends now, and that the export tells as dirty extents. */
  readonly ends?: string
}

export class VirtualMachine {
  readonly monitor: string
  /** For tickets, while a backup is going on. */
  readonly url: string
  readonly #dir: string
  readonly #process: ChildProcess
  readonly #qmp: Qmp
  readonly #disk: string
  #said = ''

  private constructor(dir: string, disk: string, process: ChildProcess, qmp: Qmp) {
    this.#dir = dir
    this.#disk = disk
    this.#process = process
    this.#qmp = qmp
    this.monitor = join(dir, 'qmp')
    this.url = `nbd:unix:${join(dir, 'nbd')}:exportname=${DISK}`
    process.stdout?.setEncoding('utf8').on('data', (text: string) => (this.#said += text))
  }

  /** Of a qcow2 image. Ended with the test. */
  static async start(t: Test, disk: string): Promise<VirtualMachine> {
    const dir = mkdtempSync(join(tmpdir(), 'imageio-vm-'))
    const monitor = join(dir, 'qmp')
    // Without stdbuf what qemu says would stay in its memory.
    const child = spawn('stdbuf', ['-oL', 'qemu-system-x86_64', ...vmArguments(disk, monitor)], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let errors = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text))
    t.teardown(async () => {
      await end(child, 'SIGKILL')
      rmSync(dir, { recursive: true, force: true })
    })
    const qmp = await until(
      'the virtual machine has started',
      () => {
        if (hasEnded(child)) throw new Error(`qemu ended: ${errors}`)
        return Qmp.open(monitor).catch(() => undefined)
      },
      { timeoutMs: 20_000 },
    )
    t.teardown(() => qmp.close())
    const path = join(dir, 'nbd')
    await qmp.execute('nbd-server-start', { addr: { type: 'unix', data: { path } } })
    return new VirtualMachine(dir, disk, child, qmp)
  }

  /** What the guest does to its disk, in qemu-io's words. Rejects when it fails. */
  async guest(command: string): Promise<void> {
    const before = this.#said.length
    await this.#io(command)
    // How it went is told on standard output only; the length is there when all before it is.
    await this.#io('length')
    const said = await until(`${command} is done`, () => {
      const text = this.#said.slice(before)
      return /^\d+ [KMG]iB$/m.test(text) && text
    })
    if (/failed|error|invalid/i.test(said)) throw new Error(`${command}: ${said}`)
  }

  /**
   * Freezes a moment: what the guest overwrites from now on is kept in a scratch image first, through
   * which the disk is seen as it was. At the same moment one bitmap ends and the next begins.
   */
  async beginBackup({ begins, ends }: Checkpoint): Promise<void> {
    const scratch = join(this.#dir, 'scratch.qcow2')
    const layer = ['-b', this.#disk, '-F', 'qcow2', '-u']
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', ...layer, scratch, await this.#size()])
    await this.#qmp.execute('blockdev-add', {
      driver: 'qcow2',
      'node-name': SCRATCH,
      file: { driver: 'file', filename: scratch },
      backing: DISK,
    })
    const bitmap = (type: string, name: string, more = {}): { type: string; data: object } => ({
      type: `block-dirty-bitmap-${type}`,
      data: { node: DISK, name, ...more },
    })
    await this.#qmp.transaction([
      ...(ends === undefined ? [] : [bitmap('disable', ends)]),
      bitmap('add', begins, { persistent: true }),
      {
        type: 'blockdev-backup',
        data: { 'job-id': BACKUP, device: DISK, target: SCRATCH, sync: 'none' },
      },
    ] as Parameters<Qmp['transaction']>[0])
    await this.#qmp.execute('block-export-add', {
      type: 'nbd',
      id: BACKUP,
      'node-name': SCRATCH,
      name: DISK,
      'allocation-depth': true,
      ...(ends === undefined ? {} : { bitmaps: [ends] }),
    })
  }

  /** Also of clients that still have the export open. */
  async endBackup({ removes }: { removes?: string } = {}): Promise<void> {
    await this.#qmp.execute('block-export-del', { id: BACKUP, mode: 'hard' })
    await this.#qmp.event('BLOCK_EXPORT_DELETED')
    await this.#qmp.execute('block-job-cancel', { device: BACKUP })
    await this.#qmp.event('BLOCK_JOB_CANCELLED')
    await this.#qmp.execute('blockdev-del', { 'node-name': SCRATCH })
    if (removes !== undefined) {
      await this.#qmp.execute('block-dirty-bitmap-remove', { node: DISK, name: removes })
    }
  }

  /** As a crash would. */
  kill(): Promise<void> {
    return end(this.#process, 'SIGKILL')
  }

  /** In an orderly way: bitmaps are stored in the image. */
  async quit(): Promise<void> {
    // It may be gone before its answer has left.
    await this.#qmp.execute('quit').catch(() => undefined)
    await end(this.#process, undefined)
  }

  async #io(command: string): Promise<void> {
    const line = `qemu-io -d disk0/virtio-backend "${command}"`
    await this.#qmp.execute('human-monitor-command', { 'command-line': line })
  }

  async #size(): Promise<string> {
    const info = await run('qemu-img', ['info', '-U', '--output=json', this.#disk])
    return String((JSON.parse(info) as { 'virtual-size': number })['virtual-size'])
  }
}

function vmArguments(disk: string, monitor: string): string[] {
  return [
    ...['-S', '-machine', 'q35,accel=tcg', '-m', '64', '-nodefaults', '-display', 'none'],
    ...['-qmp', `unix:${monitor},server=on,wait=off`],
    ...['-blockdev', `driver=file,node-name=file,filename=${disk}`],
    ...['-blockdev', `driver=qcow2,node-name=${DISK},file=file`],
    ...['-device', `virtio-blk-pci,drive=${DISK},id=disk0`],
  ]
}

async function end(child: ChildProcess, signal: NodeJS.Signals | undefined): Promise<void> {
  if (hasEnded(child)) return
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  if (signal !== undefined) child.kill(signal)
  await exited
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null
}
