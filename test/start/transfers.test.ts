/** The transfer service of `npm start`, and the lines it prints. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { childrenOf, hasEnded, ready, start, userDir } from '../support/start.js'
import { run, without } from '../support/tools.js'
import { until, within } from '../support/wait.js'

const LINES = [
  ...[
    'begin',
    'add disk',
    'some data',
    'add transfer',
    'wait for it',
    'to the daemon',
    'to the proxy',
  ],
  ...['finalize', 'how it ended', 'status of it'],
]

t.test('the printed lines upload a disk, which stays', { skip: without('curl') }, async (t) => {
  const dir = userDir(t)
  const started = start(t, dir, ['--transfers', 'my transfers'])
  const text = await ready(started)
  const script = LINES.map((name) => lineOf(text, name))
  const said = await run('sh', ['-ec', script.join('\n')], { cwd: dir })
  t.match(said, '<phase>finished_success</phase>')
  t.match(said, /<status>ok<\/status>(?!.*<status>)/s)
  const disks = join(dir, 'my transfers', 'disks')
  const image = imagesIn(disks).join()
  t.ok(readFileSync(join(disks, image)).equals(readFileSync(join(dir, 'mydisk.img'))))
  t.match(text, /^ +disks +.*my transfers\/disks +\(kept\)$/m)
  await until('its end', () => /^transfer [0-9a-f-]{36} succeeded$/m.test(started.output()))

  const second = start(t, dir, ['--transfers', 'my transfers'])
  t.equal(await within('end of the second', 20_000, second.ended), 1)
  t.match(second.errors(), /^imageio: .*my transfers is in use by another npm start: /)

  const children = childrenOf(started.child.pid ?? 0)
  t.equal(children.length, 3, 'daemon, proxy, transfer service')
  started.child.kill('SIGINT')
  t.equal(await within('end', 20_000, started.ended), 0)
  t.ok(children.every(hasEnded))
  t.equal(started.errors(), '')
  t.strictSame(readdirSync(join(dir, 'tmp')), [], 'no run directory')
  t.strictSame(imagesIn(disks), [image])
})

t.test('without a directory the disks go with the run', { skip: without('curl') }, async (t) => {
  const dir = userDir(t)
  const started = start(t, dir, [])
  const text = await ready(started)
  const sh = (...script: string[]) => run('sh', ['-ec', script.join('\n')], { cwd: dir })
  const lines = LINES.map((name) => lineOf(text, name))

  await t.test('the lines of other clients say where, who, and whom to trust', async (t) => {
    const api = /^ +API +(\S+)$/m.exec(text)?.[1] ?? ''
    const password = /^ +password +(\S+)$/m.exec(text)?.[1] ?? ''
    const ca = /^ +CA +(\S+)$/m.exec(text)?.[1] ?? ''
    const words = `url="${api}", username="admin@internal", password="${password}", ca_file="${ca}"`
    const line = `import ovirtsdk4; connection = ovirtsdk4.Connection(${words})`
    t.equal(lineOf(text, 'python sdk'), line)
    const options = lineOf(text, 'ovirt-img').split(' --')
    t.ok(options.includes(`engine-url ${new URL(api).origin}`))
    t.ok(options.includes(`cafile ${ca}`))
    t.ok(options.includes('storage-domain default mydisk.img'))
    const file = options.find((option) => option.startsWith('password-file '))?.split(' ')[1] ?? ''
    t.equal(readFileSync(file, 'utf8'), password)
    t.equal(statSync(file).mode & 0o777, 0o600)
  })

  const end = LINES.indexOf('finalize')
  const id = (await sh(...lines.slice(0, end), 'echo "$id"')).trim().split('\n').at(-1)
  await until('both uploads are counted', () => /^moved 2 MiB/m.test(started.output()))
  const said = await sh(lines[0] ?? '', `id=${id ?? ''}`, ...lines.slice(end))
  t.match(said, '<phase>finished_success</phase>')
  const disks = /^ +disks +(\S+) +\(removed at the end; --transfers DIR keeps them\)$/m.exec(text)
  t.ok(disks?.[1]?.startsWith(join(dir, 'tmp')))
  t.equal(imagesIn(disks?.[1] ?? '').length, 1)

  await t.test('why an image was refused is told', async (t) => {
    const script = lines.map((line) => line.replace(/mydisk-/, 'another-'))
    script[1] = script[1]?.replace('<format>raw', '<format>cow') ?? 'false'
    t.match(await sh(...script), '<status>illegal</status>')
    await until('the reason', () => started.output().includes('the image was refused'))
    const line = /^transfer ([0-9a-f-]{36}) failed: the image was refused: .*qcow2.*$/m
    t.match(started.output(), line)
    t.equal(started.output().match(new RegExp(line, 'gm'))?.length, 1, 'and told once')
    t.equal(started.errors(), '')
  })

  started.child.kill('SIGINT')
  t.equal(await within('end', 20_000, started.ended), 0)
  t.notMatch(started.output(), /moved [2-9] MiB.*moved 0 B/s, 'what was moved stays counted')
  t.equal(started.errors(), '')
  t.strictSame(readdirSync(join(dir, 'tmp')), [])
  t.strictSame(readdirSync(dir).sort(), ['mydisk.img', 'tmp'])
})

t.test('with one an upload ends in the next run', { skip: without('curl') }, async (t) => {
  const dir = userDir(t)
  const begin = async () => {
    const started = start(t, dir, ['--transfers', 'kept'])
    const lines = await ready(started)
    const sh = (...script: string[]) => run('sh', ['-ec', script.join('\n')], { cwd: dir })
    return { started, sh, lines: LINES.map((name) => lineOf(lines, name)) }
  }
  const first = await begin()
  const end = LINES.indexOf('finalize')
  const said = await first.sh(...first.lines.slice(0, end), 'echo "$id"')
  const id = said.trim().split('\n').at(-1)
  first.started.child.kill('SIGINT')
  await within('end', 20_000, first.started.ended)
  const second = await begin()
  const [api = '', ...others] = second.lines.filter((_, index) => index === 0 || index >= end)
  const status = others.pop()?.replace(/mydisk-\d+/, () => /mydisk-\d+/.exec(first.lines[1]!)![0])
  const ended = await second.sh(api, `id=${id ?? ''}`, ...others, status ?? '')
  t.match(ended, '<phase>finished_success</phase>')
  t.match(ended, /<status>ok<\/status>(?!.*<status>)/s)
  second.started.child.kill('SIGINT')
  t.equal(await within('end', 20_000, second.started.ended), 0)
})

const skip = without('curl', 'qemu-nbd')

t.test('the NBD server of an unfinished transfer ends as well', { skip }, async (t) => {
  const dir = userDir(t)
  const started = start(t, dir, ['--transfers', 'kept'])
  const text = await ready(started)
  const names = ['begin', 'add disk', 'add transfer', 'wait for it']
  const script = names.map((name) => lineOf(text, name))
  script[1] = script[1]?.replace('<format>raw', '<format>cow') ?? 'false'
  script[2] = script[2]?.replace('<direction>', '<format>raw</format><direction>') ?? 'false'
  const said = await run('sh', ['-ec', [...script, 'echo "$answer"'].join('\n')], { cwd: dir })
  t.match(said, '<phase>transferring</phase>')
  const nbd = join(dir, 'tmp', readdirSync(join(dir, 'tmp'))[0] ?? '', 'nbd')
  const pidFile = readdirSync(nbd).find((name) => name.endsWith('.pid')) ?? ''
  const pid = Number(readFileSync(join(nbd, pidFile), 'utf8'))
  t.notOk(hasEnded(pid))
  started.child.kill('SIGINT')
  t.equal(await within('end', 20_000, started.ended), 0)
  await until('qemu-nbd has ended', () => hasEnded(pid))
  t.strictSame(readdirSync(join(dir, 'tmp')), [])
})

t.test('a directory that cannot be used is told', async (t) => {
  for (const path of ['/dev/null/x', '/proc/x', '/proc/x/y']) {
    const dir = userDir(t)
    const started = start(t, dir, ['--transfers', path])
    t.equal(await within('end', 20_000, started.ended), 1, path)
    t.match(started.errors(), new RegExp(`^imageio: cannot use ${path}: `))
    t.strictSame(readdirSync(join(dir, 'tmp')), [])
  }
})

/** Beside them is the marker of the storage domain. */
function imagesIn(dir: string): string[] {
  return readdirSync(dir).filter((name) => !name.startsWith('.'))
}

function lineOf(text: string, name: string): string {
  return new RegExp(`^  ${name} +(.*)$`, 'm').exec(text)?.[1] ?? 'false'
}
