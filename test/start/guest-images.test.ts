/** Images that are not raw, from the command line to the last byte. */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { KiB, MiB } from '../../core/units.js'
import { childrenOf, hasEnded, paste, ready, start as startAll, userDir } from '../support/start.js'
import { without } from '../support/tools.js'
import { until, within } from '../support/wait.js'

const skip = without('curl', 'qemu-img', 'qemu-nbd')

/** The other servers have no part in it. */
const start: typeof startAll = (t, dir, args, env) =>
  startAll(t, dir, ['--daemon-only', ...args], env)

const qemuImg = (...args: string[]): string =>
  execFileSync('qemu-img', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })

/** Data at both ends, holes between; no multiple of a cluster. */
function guestData(): Buffer {
  const data = Buffer.alloc(12 * MiB + 4 * KiB)
  randomBytes(3 * MiB).copy(data, 64 * KiB)
  randomBytes(8 * KiB).copy(data, data.length - 8 * KiB)
  return data
}

/** A directory with an image that holds the data; `raw` is what qemu-img says it holds. */
function withImage(t: Test, name: string, format: string, data = guestData(), dir = userDir(t)) {
  const [source, path] = [join(dir, 'source'), join(dir, name)]
  writeFileSync(source, data)
  qemuImg('convert', '-f', 'raw', '-O', format, source, path)
  const raw = (): Buffer => {
    qemuImg('convert', '-f', format, '-O', 'raw', path, join(dir, 'converted'))
    return readFileSync(join(dir, 'converted'))
  }
  return { dir, path, data, raw }
}

async function stop(t: Test, started: ReturnType<typeof start>): Promise<void> {
  started.child.kill('SIGTERM')
  t.equal(await within('end', 15_000, started.ended), 0)
  t.equal(started.errors(), '')
}

/** Of a started command: those that serve its images. */
function qemuNbdsOf(pid: number): number[] {
  const isQemu = (child: number) => readFileSync(`/proc/${child}/comm`, 'utf8') === 'qemu-nbd\n'
  return childrenOf(pid).filter(isQemu)
}

function qemuNbdOf(pid: number): number {
  return qemuNbdsOf(pid)[0] ?? 0
}

const FORMATS = [
  ["it's a disk.qcow2", 'qcow2'],
  ['a.vmdk', 'vmdk'],
  ['b.vhdx', 'vhdx'],
  ['c.vhd', 'vpc'],
  ['d.vdi', 'vdi'],
] as const

/** The lines of one of several images. */
function linesOf(text: string, path: string): string {
  const from = text.indexOf(`${path}  (`)
  return from < 0 ? '' : text.slice(from)
}

t.test('the guest’s data of each format is downloaded', { skip }, async (t) => {
  const dir = userDir(t)
  const images = FORMATS.map(([name, format]) => ({
    ...withImage(t, name, format, guestData(), dir),
    ...{ name, format, title: `${format}, 12 MiB guest data, read only` },
  }))
  const base = images[0]?.path ?? ''
  const before = images.map(({ path }) => readFileSync(path))
  const top = join(dir, 'top.qcow2')
  qemuImg('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top)
  const started = start(t, dir, [...images.map(({ name }) => name), 'top.qcow2'])
  const text = await ready(started)

  for (const { name, format, title, path, data, raw } of images) {
    t.test(format, async (t) => {
      const lines = linesOf(text, path)
      t.ok(lines.startsWith(`${path}  (${title})`))
      t.match(lines, /^ +upload +read only/m)
      paste(dir, lines, 'download')
      const copy = readFileSync(join(dir, name.replace(/\.\w+$/, '.copy.raw')))
      t.ok(copy.equals(raw()), 'as qemu-img converts it')
      t.ok(copy.subarray(0, data.length).equals(data))
      const extents = JSON.parse(paste(dir, lines, 'extents')) as { zero: boolean }[]
      // qemu does not tell the holes of a vhdx.
      t.equal(
        extents.some(({ zero }) => zero),
        format !== 'vhdx',
        'holes are known',
      )
    })
  }

  t.test('a chain, as the guest sees it, and named', async (t) => {
    const lines = linesOf(text, top)
    t.match(lines, `  with ${base} (qcow2)\n`)
    paste(dir, lines, 'download')
    t.ok(readFileSync(join(dir, 'top.copy.raw')).equals(images[0]!.raw()))
  })

  const missing = skip || without('nbdkit')
  t.test('the line for a copy in qcow2 makes one', { skip: missing }, async (t) => {
    paste(dir, linesOf(text, base), 'as qcow2')
    t.match(qemuImg('compare', base, join(dir, "it's a disk.copy.qcow2")), 'identical')
  })

  t.test('at the end all are as they were', async (t) => {
    await stop(t, started)
    for (const [index, { path }] of images.entries()) {
      t.ok(readFileSync(path).equals(before[index]!), path)
    }
    t.strictSame(readdirSync(join(dir, 'tmp')), [])
  })
})

for (const options of [[], ['--sparse']]) {
  const title = ['an upload into qcow2 is what the guest sees', ...options].join(', ')
  t.test(title, { skip }, async (t) => {
    const { dir, path } = withImage(t, 'disk.qcow2', 'qcow2')
    const started = start(t, dir, ['--writable', ...options, 'disk.qcow2'])
    const text = await ready(started)
    const upload = join(dir, 'disk.copy.raw')
    writeFileSync(upload, guestData())
    paste(dir, text, 'upload')
    await stop(t, started)
    t.match(qemuImg('compare', '-f', 'raw', '-F', 'qcow2', upload, path), 'identical')
    t.match(qemuImg('check', '-f', 'qcow2', path), 'No errors')
  })
}

t.test('a data file is found beside its image', { skip }, async (t) => {
  const { dir, data } = withImage(t, 'disk.vdi', 'vdi')
  const options = ['-O', 'qcow2', '-o', 'data_file=disk.data', 'source', 'disk.qcow2']
  execFileSync('qemu-img', ['convert', '-f', 'raw', ...options], { cwd: dir, stdio: 'ignore' })
  const started = start(t, join(dir, 'tmp'), ['../disk.qcow2'], { TMPDIR: join(dir, 'tmp') })
  const text = await ready(started)
  t.match(text, `  with ${join(dir, 'disk.data')} (data file)\n`)
  paste(dir, text, 'download')
  t.ok(readFileSync(join(dir, 'disk.copy.raw')).equals(data))
})

t.test('a header alone is served as bytes, until the user says more', { skip }, async (t) => {
  const { dir, path, data } = withImage(t, 'disk.qcow2', 'qcow2')
  copyFileSync(path, join(dir, 'disk.img'))
  const asBytes = start(t, dir, ['disk.img'])
  const text = await ready(asBytes)
  t.match(text, /^ +It begins like a qcow2 image, .* --format qcow2 serves the guest's data\.$/m)
  paste(dir, text, 'download')
  t.ok(readFileSync(join(dir, 'disk.img.copy')).equals(readFileSync(path)))

  const asGuest = start(t, dir, ['--format', 'qcow2', 'disk.img'])
  paste(dir, await ready(asGuest), 'download')
  t.ok(readFileSync(join(dir, 'disk.copy.raw')).equals(data))
})

t.test('a bitmap tells what changed', { skip }, async (t) => {
  const { dir, path } = withImage(t, 'disk.qcow2', 'qcow2')
  qemuImg('bitmap', '--add', '-f', 'qcow2', path, 'b0')
  const writer = start(t, dir, ['--writable', 'disk.qcow2'])
  paste(dir, await ready(writer), 'zero')
  await stop(t, writer)
  const reader = start(t, dir, ['--bitmap', 'b0', 'disk.qcow2'])
  const extents = JSON.parse(paste(dir, await ready(reader), 'changed blocks')) as object[]
  t.match(extents[0], { start: 0, length: 64 * KiB, dirty: true })
  t.match(extents[1], { dirty: false })
})

t.test('without qemu the package is named', { skip }, async (t) => {
  const { dir } = withImage(t, 'disk.qcow2', 'qcow2')
  mkdirSync(join(dir, 'bin'))
  const started = start(t, dir, ['disk.qcow2'], { PATH: join(dir, 'bin') })
  t.equal(await within('end', 15_000, started.ended), 1)
  t.match(
    started.errors(),
    /^imageio: images that are not raw need qemu-img, .*qemu-utils.*--raw.*\n$/,
  )
})

t.test('an image qemu cannot open is one line, and nothing is left', { skip }, async (t) => {
  const { dir, path } = withImage(t, 'disk.qcow2', 'qcow2')
  writeFileSync(path, readFileSync(path).subarray(0, 90))
  const started = start(t, dir, ['disk.qcow2'])
  t.equal(await within('end', 15_000, started.ended), 1)
  t.match(started.errors(), /^imageio: [^\n]*disk\.qcow2: qemu cannot open it as qcow2: [^\n]*\n$/)
  t.strictSame(readdirSync(join(dir, 'tmp')), [])
})

t.test('an image that was cut is refused, but not its bytes', { skip }, async (t) => {
  const { dir, path } = withImage(t, 'disk.vdi', 'vdi')
  truncateSync(path, 2 * MiB)
  const started = start(t, dir, ['disk.vdi'])
  t.equal(await within('end', 15_000, started.ended), 1)
  t.match(started.errors(), /^imageio: [^\n]*disk\.vdi: its end is missing, [^\n]*--raw[^\n]*\n$/)
  const asBytes = start(t, dir, ['--raw', 'disk.vdi'])
  const text = await ready(asBytes)
  t.equal(qemuNbdOf(asBytes.child.pid ?? 0), 0)
  paste(dir, text, 'download')
  t.ok(readFileSync(`${path}.copy`).equals(readFileSync(path)))
})

t.test('an image in use by another is refused, and the first goes on', { skip }, async (t) => {
  const { dir } = withImage(t, 'disk.qcow2', 'qcow2')
  const first = start(t, dir, ['--writable', 'disk.qcow2'])
  await ready(first)
  const second = start(t, dir, ['disk.qcow2'])
  t.equal(await within('end', 15_000, second.ended), 1)
  t.match(second.errors(), /^imageio: [^\n]* is in use by another program[^\n]*\n$/)
  // Twice in one command: both are looked at before either is opened.
  await stop(t, first)
  const twice = start(t, dir, ['--writable', 'disk.qcow2', 'disk.qcow2'])
  t.equal(await within('end', 15_000, twice.ended), 1)
  t.match(twice.errors(), /^imageio: [^\n]* is in use by another program[^\n]*\n$/)
  t.strictSame(readdirSync(join(dir, 'tmp')), [])
})

t.test('a qemu-nbd that dies ends the command with its name', { skip }, async (t) => {
  const { dir, path } = withImage(t, 'disk.qcow2', 'qcow2')
  const started = start(t, dir, ['disk.qcow2'])
  await ready(started)
  process.kill(qemuNbdOf(started.child.pid ?? 0), 'SIGKILL')
  t.equal(await within('end', 15_000, started.ended), 1)
  t.equal(started.errors(), `imageio: qemu-nbd, which serves ${path}, was killed by SIGKILL\n`)
  t.strictSame(readdirSync(join(dir, 'tmp')), [])
})

t.test('a qemu-nbd that dies leaves the other images alone', { skip }, async (t) => {
  const { dir, path, data } = withImage(t, 'disk.qcow2', 'qcow2')
  copyFileSync(path, join(dir, 'other.qcow2'))
  const started = start(t, dir, ['disk.qcow2', 'other.qcow2'])
  const text = await ready(started)
  const [first = 0, second = 0] = qemuNbdsOf(started.child.pid ?? 0)
  process.kill(first, 'SIGKILL')
  const line = `imageio: qemu-nbd, which serves ${path}, was killed by SIGKILL\nimageio: everything else goes on\n`
  await until('the line', () => started.errors() === line)
  paste(dir, text.slice(text.indexOf('other.qcow2  (')), 'download')
  t.ok(readFileSync(join(dir, 'other.copy.raw')).equals(data))
  process.kill(second, 'SIGKILL')
  t.equal(await within('end', 15_000, started.ended), 1)
  t.match(
    started.errors().slice(line.length),
    /^imageio: [^\n]*other\.qcow2, was killed by SIGKILL\n$/,
  )
  t.strictSame(readdirSync(join(dir, 'tmp')), [])
})

t.test(
  'SIGKILL leaves no qemu-nbd behind and the image whole',
  { skip: skip || without('setpriv') },
  async (t) => {
    const { dir, path } = withImage(t, 'disk.qcow2', 'qcow2')
    const started = startAll(t, dir, ['--writable', 'disk.qcow2'])
    const text = await ready(started)
    const upload = join(dir, 'disk.copy.raw')
    writeFileSync(upload, guestData())
    paste(dir, text, 'upload')
    const children = childrenOf(started.child.pid ?? 0)
    t.equal(children.length, 4, 'qemu-nbd and three servers')
    started.child.kill('SIGKILL')
    await until('the end of all', () => children.every(hasEnded), { timeoutMs: 15_000 })
    t.match(qemuImg('check', '-f', 'qcow2', path), 'No errors')
    t.match(qemuImg('compare', '-f', 'raw', '-F', 'qcow2', upload, path), 'identical')
  },
)
