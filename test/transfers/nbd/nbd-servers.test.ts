import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import {
  chmod,
  copyFile,
  link,
  mkdir,
  readFile,
  readdir,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { createConnection, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { NbdServers, type ServedVolume } from '../../../transfers/nbd/nbd-servers.js'
import { verifyVolume } from '../../../transfers/verify/verify.js'
import { run, without } from '../../support/tools.js'
import { until } from '../../support/wait.js'

const MiB = 1024 * 1024
const SIZE = 8 * MiB
const ID = '0b0a3c86-3d6a-4d0c-a9bb-c2f6c0a0a001'

const skip = without('qemu-nbd', 'qemu-img', 'nbdinfo', 'nbdcopy')
const asRoot = process.getuid?.() === 0 ? false : 'needs root'

function setUp(t: Test, options: { group?: number; stopTimeoutMs?: number } = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'imageio-nbd-'))
  const runDir = join(dir, 'run')
  const nbd = new NbdServers({ runDir, startTimeoutMs: 30_000, ...options })
  t.teardown(async () => {
    for (const id of await nbd.list()) await nbd.stop(id)
    rmSync(dir, { recursive: true, force: true })
  })
  return { dir, runDir, nbd }
}

async function volume(dir: string, fields: Partial<ServedVolume> = {}): Promise<ServedVolume> {
  const path = join(dir, 'volume "1", {x:y}')
  const made = { path, format: 'raw', direction: 'upload', isSparse: true, ...fields } as const
  if (made.format === 'cow') await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, `${SIZE}`])
  else await writeFile(path, randomBytes(SIZE))
  return made
}

/** As libnbd writes it. */
function uri(runDir: string, id = ID): string {
  return `nbd+unix:///?socket=${join(runDir, `${id}.sock`)}`
}

async function info(runDir: string): Promise<Record<string, unknown>> {
  const text = await run('nbdinfo', ['--json', uri(runDir)])
  return (JSON.parse(text) as { exports: Record<string, unknown>[] }).exports[0]!
}

function commandLine(pid: number): string[] {
  return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
}

t.test('a raw disk is downloaded, and cannot be written', { skip }, async (t) => {
  const { dir, runDir, nbd } = setUp(t)
  const served = await volume(dir, { direction: 'download' })
  const { pid, url } = await nbd.start(ID, served)
  t.equal(url, `nbd:unix:${runDir}/${ID}.sock`)
  t.equal(nbd.url(ID), url)
  t.match(await info(runDir), { 'export-size': SIZE, is_read_only: true, can_multi_conn: true })
  await run('nbdcopy', [uri(runDir), join(dir, 'copy')])
  t.ok((await readFile(join(dir, 'copy'))).equals(await readFile(served.path)))
  const environment = readFileSync(`/proc/${pid}/environ`, 'utf8')
  t.match(environment, /MALLOC_TRIM_THRESHOLD_=134217728\0/)
  t.match(environment, /MALLOC_MMAP_THRESHOLD_=33554432\0/)
  t.notMatch(environment, /HOME=/)
})

t.test('guest data is uploaded into a cow disk, which stays valid', { skip }, async (t) => {
  const { dir, runDir, nbd } = setUp(t)
  const served = await volume(dir, { format: 'cow' })
  const source = join(dir, 'source')
  await writeFile(source, Buffer.concat([Buffer.alloc(MiB), randomBytes(MiB)]))
  await truncate(source, SIZE)
  await nbd.start(ID, served)
  const facts = await info(runDir)
  t.match(facts, { 'export-size': SIZE, is_read_only: false, can_trim: true, can_zero: true })
  t.match(facts, { contexts: ['base:allocation', 'qemu:allocation-depth'] })
  await run('nbdcopy', [source, uri(runDir)])
  await nbd.stop(ID)
  const result = await verifyVolume({ ...served, provisionedSize: SIZE })
  t.match(result, { ok: true, warnings: [] })
  t.ok(result.ok && result.actualSize < 2 * MiB, 'zeroes are not stored')
  await run('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', source, served.path])
  t.same(await readdir(runDir), [], 'nothing is left of the server')
})

t.test('zeroes make holes in sparse disks only', { skip }, async (t) => {
  const { dir, runDir, nbd } = setUp(t)
  const zeroes = join(dir, 'zeroes')
  await writeFile(zeroes, Buffer.alloc(SIZE))
  for (const isSparse of [true, false]) {
    const served = await volume(dir, { isSparse })
    const { pid } = await nbd.start(ID, served)
    // Written as data, as by a client that does not look.
    await run('nbdcopy', ['--destination-is-zero', zeroes, uri(runDir)])
    await run('qemu-img', ['convert', '-n', '-S', '0', '-f', 'raw', zeroes, nbd.url(ID)])
    await nbd.stop(ID)
    const line = isSparse ? '--detect-zeroes=unmap' : '--detect-zeroes=on'
    t.equal((await stat(served.path)).blocks * 512 >= SIZE, !isSparse, line)
    t.ok((await readFile(served.path)).equals(Buffer.alloc(SIZE)))
    await ended(pid)
  }
})

t.test('a backing file or data file is not opened', { skip }, async (t) => {
  const { dir, nbd } = setUp(t)
  const secret = join(dir, 'secret')
  await writeFile(secret, 'x'.repeat(512))
  const path = join(dir, 'volume')
  const args = ['-q', '-f', 'qcow2', '-u', '-b', secret, '-F', 'raw', path, `${SIZE}`]
  await run('qemu-img', ['create', ...args])
  const served = { path, format: 'cow', direction: 'download', isSparse: true } as const
  await t.rejects(nbd.start(ID, served), {
    name: 'NbdServerError',
    message: /cannot be served: the image has a backing file/,
  })
  t.equal(await nbd.find(ID), undefined)
})

t.test('the daemon’s group gets in, others do not', { skip: skip || asRoot }, async (t) => {
  const { dir, runDir, nbd } = setUp(t, { group: 12_345 })
  await nbd.start(ID, await volume(dir))
  const socket = await stat(join(runDir, `${ID}.sock`))
  t.equal(socket.mode & 0o7777, 0o660)
  t.equal(socket.gid, 12_345)
  const directory = await stat(runDir)
  t.equal(directory.mode & 0o7777, 0o750)
  t.equal(directory.gid, 12_345)
  t.equal((await stat(join(runDir, `${ID}.pid`))).mode & 0o077, 0)
})

t.test('it outlives who started it, and is found again', { skip }, async (t) => {
  const { dir, runDir, nbd } = setUp(t)
  const served = await volume(dir)
  const module = new URL('../../../transfers/nbd/nbd-servers.js', import.meta.url)
  const code = `import { NbdServers } from ${JSON.stringify(module)}
    const nbd = new NbdServers({ runDir: ${JSON.stringify(runDir)}, startTimeoutMs: 30000 })
    const { pid } = await nbd.start(${JSON.stringify(ID)}, ${JSON.stringify(served)})
    console.log(pid)
    setInterval(() => undefined, 1000)`
  const args = ['--input-type=module', '-e', code]
  const manager = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let said = ''
  manager.stdout.setEncoding('utf8').on('data', (text: string) => (said += text))
  const pid = await until('it is started', () => said.endsWith('\n') && Number(said), {
    timeoutMs: 40_000,
  })
  const exited = new Promise((resolve) => manager.once('exit', resolve))
  manager.kill('SIGKILL')
  await exited
  t.same(await nbd.find(ID), { pid, url: nbd.url(ID) })
  t.same(await nbd.list(), [ID])
  t.match(await info(runDir), { 'export-size': SIZE })
  rmSync(join(runDir, `${ID}.pid`))
  t.match(await nbd.find(ID), { pid }, 'without its pid file as well')
  await nbd.stop(ID)
  await ended(pid)
  t.same(await nbd.list(), [])
})

t.test('a process that has the id of an old server is left alone', { skip }, async (t) => {
  const { runDir, nbd } = setUp(t)
  await mkdir(runDir)
  const other = spawn('sleep', ['100'], { stdio: 'ignore' })
  t.teardown(() => other.kill('SIGKILL'))
  for (const pid of [other.pid!, 1, 0, -1, 'nonsense', '', 2 ** 31]) {
    await writeFile(join(runDir, `${ID}.pid`), `${pid}\n`)
    t.equal(await nbd.find(ID), undefined)
    await nbd.stop(ID)
  }
  t.ok(isAlive(other.pid!))
  t.same(await readdir(runDir), [])
})

t.test('a server of another transfer is left alone', { skip }, async (t) => {
  const { dir, runDir, nbd } = setUp(t)
  const { pid } = await nbd.start(`${ID}1`, await volume(dir, { direction: 'download' }))
  await copyFile(join(runDir, `${ID}1.pid`), join(runDir, `${ID}.pid`))
  await nbd.stop(ID)
  t.match(await nbd.find(`${ID}1`), { pid })
})

t.test('one that was killed is started again at the same place', { skip }, async (t) => {
  const { dir, runDir, nbd } = setUp(t)
  const served = await volume(dir)
  const first = await nbd.start(ID, served)
  process.kill(first.pid, 'SIGKILL')
  await until('it is gone', async () => (await nbd.find(ID)) === undefined)
  const second = await nbd.start(ID, served)
  t.not(second.pid, first.pid)
  t.equal(second.url, first.url)
  t.match(await info(runDir), { 'export-size': SIZE })
  const third = await nbd.start(ID, served)
  t.not(third.pid, second.pid, 'one that serves is replaced')
  await ended(second.pid)
})

t.test('one that does not end is killed', { skip }, async (t) => {
  const { dir, nbd } = setUp(t, { stopTimeoutMs: 100 })
  const { pid } = await nbd.start(ID, await volume(dir))
  process.kill(pid, 'SIGSTOP')
  await nbd.stop(ID)
  await ended(pid)
})

t.test('one that has all its clients is still found', { skip }, async (t) => {
  const { dir, runDir, nbd } = setUp(t)
  const { pid } = await nbd.start(ID, await volume(dir))
  for (let client = 0; client < 8; client++) {
    const socket = createConnection(join(runDir, `${ID}.sock`))
    t.teardown(() => socket.destroy())
    await new Promise((resolve) => socket.once('data', resolve))
  }
  t.match(await nbd.find(ID), { pid })
})

t.test('what cannot be served is told, and nothing runs', { skip }, async (t) => {
  const { dir, runDir, nbd } = setUp(t)
  const served = await volume(dir)
  const refused = async (fields: Partial<ServedVolume>, reason: RegExp): Promise<void> => {
    const start = nbd.start(ID, { ...served, ...fields })
    await t.rejects(start, { name: 'NbdServerError', message: reason })
    t.same(await readdir(runDir), [])
  }
  await refused({ path: join(dir, 'missing') }, /cannot be served: ENOENT/)
  await refused({ format: 'cow' }, /no qcow2 image/)
  await refused({ path: dir }, /no regular file/)
  await link(served.path, join(dir, 'link'))
  await refused({}, /2 names/)
  rmSync(join(dir, 'link'))
  const cow = { ...served, path: join(dir, 'locked'), format: 'cow' } as const
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', cow.path, `${SIZE}`])
  const { pid } = await nbd.start('other', cow)
  await t.rejects(nbd.start(ID, cow), { message: /does not start: .*Failed to get .* lock/s })
  t.ok(isAlive(pid))
  await nbd.stop('other')
  t.same(await readdir(runDir), [])
  await t.rejects(nbd.start(ID, served, AbortSignal.abort()), /abort/)
  await t.rejects(nbd.start('../x', served), TypeError)
})

t.test('a server that another instance has left is found, and ended', { skip }, async (t) => {
  const { dir, runDir, nbd } = setUp(t)
  const served = await volume(dir)
  const { pid, url } = await nbd.start(ID, served)
  const without = new NbdServers({ runDir: join(dir, 'other') })
  t.equal(await without.find(ID), undefined, 'of volumes that are not its own it knows nothing')
  await without.stop(ID)
  const other = new NbdServers({ runDir: join(dir, 'other'), storage: [`${dir}/`] })
  t.same(await other.find(ID), { pid, url })
  t.equal(await other.find('other'), undefined)
  await other.stop('other')
  t.ok(isAlive(pid))
  await symlink(dir, join(dir, 'by-another-path'))
  const linked = new NbdServers({
    runDir: join(dir, 'other'),
    storage: [join(dir, 'by-another-path')],
  })
  t.same(await linked.find(ID), { pid, url })
  await linked.stop(ID)
  await ended(pid)
  t.same(await readdir(runDir), [])
  const { url: own } = await other.start(ID, served)
  t.equal(own, other.url(ID))
  await other.stop(ID)
})

t.test('one that hangs is killed, unless it must not be', { skip }, async (t) => {
  const { dir, nbd } = setUp(t, { stopTimeoutMs: 50 })
  await nbd.start(ID, await volume(dir))
  const { pid } = (await nbd.find(ID))!
  process.kill(pid, 'SIGSTOP')
  await t.rejects(nbd.stop(ID, { mayKill: false }), { message: /does not end/ })
  t.ok(existsSync(`/proc/${pid}`))
  await nbd.stop(ID)
  t.notOk(existsSync(`/proc/${pid}`))
})

t.test('while a server may write to it an image is not verified', { skip }, async (t) => {
  const { dir, nbd } = setUp(t)
  for (const format of ['raw', 'cow'] as const) {
    const served = await volume(dir, { format })
    const verify = () => verifyVolume({ ...served, provisionedSize: SIZE })
    await nbd.start(ID, served)
    await t.rejects(verify(), { name: 'VerificationError', message: /open for writing/ })
    await nbd.start(ID, { ...served, direction: 'download' })
    t.match(await verify(), { ok: true })
    await nbd.stop(ID)
    t.match(await verify(), { ok: true })
    rmSync(served.path)
  }
})

t.test('a run directory whose names are too long for sockets', { skip }, async (t) => {
  const { dir } = setUp(t)
  const nbd = new NbdServers({ runDir: join(dir, 'x'.repeat(60)) })
  await t.rejects(nbd.start(ID, await volume(dir)), { message: /set another run_dir/ })
})

t.test('one that starts too slowly is ended', { skip }, async (t) => {
  const { dir, runDir } = setUp(t)
  const served = await volume(dir)
  const bin = join(dir, 'bin')
  await mkdir(bin)
  await writeFile(join(bin, 'qemu-nbd'), `#!/bin/sh\necho $$ >${dir}/pid\nexec sleep 100\n`)
  await chmod(join(bin, 'qemu-nbd'), 0o755)
  const nbd = new NbdServers({ runDir, startTimeoutMs: 500 })
  await withPath(`${bin}:${process.env['PATH'] ?? ''}`, () =>
    t.rejects(nbd.start(ID, served), { message: /not ready in time/ }),
  )
  await ended(Number(await readFile(join(dir, 'pid'), 'utf8')))
  const control = new AbortController()
  rmSync(join(dir, 'pid'))
  await withPath(`${bin}:${process.env['PATH'] ?? ''}`, async () => {
    const start = new NbdServers({ runDir }).start(ID, served, control.signal)
    start.catch(() => undefined)
    await until('it runs', () => readFile(join(dir, 'pid'), 'utf8').catch(() => false as const))
    control.abort()
    await t.rejects(start, /abort/)
  })
  await ended(Number(await readFile(join(dir, 'pid'), 'utf8')))
  t.same(await readdir(runDir), [])
})

t.test('a machine without qemu-nbd says so', { skip }, async (t) => {
  const { dir, nbd } = setUp(t)
  const served = await volume(dir)
  const message = /qemu-nbd does not start: /
  await withPath('/nonexistent', () => t.rejects(nbd.start(ID, served), { message }))
  const bin = join(dir, 'bin')
  await mkdir(bin)
  await copyFile('/bin/sh', join(bin, 'sh'))
  await withPath(bin, () => t.rejects(nbd.start(ID, served), { message: /qemu-nbd: not found/ }))
})

t.test('a socket where somebody else answers is no server', { skip }, async (t) => {
  const { runDir, nbd } = setUp(t)
  await mkdir(runDir)
  const server = createServer((socket) => socket.end('HTTP/1.1'))
  await new Promise<void>((resolve) => server.listen(join(runDir, `${ID}.sock`), resolve))
  t.teardown(() => server.close())
  t.equal(await nbd.find(ID), undefined)
  t.same(await nbd.list(), [ID])
})

t.test('the command line is as specified', { skip }, async (t) => {
  const { dir, runDir, nbd } = setUp(t)
  const served = await volume(dir, { format: 'cow', direction: 'download' })
  const { pid } = await nbd.start(ID, served)
  const line = commandLine(pid)
  t.match(line, ['qemu-nbd', '--persistent', '--shared=0'])
  t.ok(line.includes('--read-only'))
  t.ok(line.includes('--allocation-depth'))
  const file = { driver: 'file', filename: served.path }
  t.same(JSON.parse(line.at(-2)!.slice('json:'.length)), { driver: 'qcow2', file, backing: null })
  t.match(await info(runDir), { is_read_only: true })
})

/** Node may still have to wait for it. */
function ended(pid: number): Promise<boolean> {
  return until('it has ended', () => !isAlive(pid))
}

async function withPath(path: string, body: () => unknown): Promise<void> {
  const before = process.env['PATH']
  process.env['PATH'] = path
  try {
    await body()
  } finally {
    process.env['PATH'] = before
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
