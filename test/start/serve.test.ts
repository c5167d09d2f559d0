import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import t from 'tap'
import {
  childrenOf,
  hasEnded,
  paste,
  ready,
  serverOf,
  start,
  startByNpm,
  userDir,
} from '../support/start.js'
import { without } from '../support/tools.js'
import { until, within } from '../support/wait.js'

const skip = without('curl')

t.test(
  'the printed lines do what they say, and nothing is left at the end',
  { skip },
  async (t) => {
    const dir = userDir(t)
    const image = join(dir, "it's a disk.img")
    const bytes = randomBytes(1_000_003)
    writeFileSync(image, bytes)
    const started = start(t, dir, ["it's a disk.img", '--writable'])
    const text = await ready(started)

    paste(dir, text, 'download')
    t.ok(readFileSync(`${image}.copy`).equals(bytes), 'download')
    writeFileSync(`${image}.copy`, '')
    paste(dir, text, 'by the proxy')
    t.ok(readFileSync(`${image}.copy`).equals(bytes), 'by the proxy')
    paste(dir, text, 'first 512 bytes')
    t.ok(readFileSync(`${image}.copy.part`).equals(bytes.subarray(0, 512)), 'range')
    paste(dir, text, 'zero')
    t.ok(
      readFileSync(image)
        .subarray(0, 65_536)
        .every((byte) => byte === 0),
      'zero',
    )
    // Where the zeroes are depends on the file system and on who read the file.
    const extents = JSON.parse(paste(dir, text, 'extents')) as { length: number }[]
    t.equal(
      extents.reduce((sum, { length }) => sum + length, 0),
      bytes.length,
    )
    t.match(paste(dir, text, 'checksum'), /^{"algorithm":.*"checksum":"[0-9a-f]{64}"}/)
    paste(dir, text, 'upload')
    t.ok(readFileSync(image).equals(bytes), 'upload')
    writeFileSync(`${image}.copy`, '')
    paste(dir, text, 'unix socket')
    t.ok(readFileSync(`${image}.copy`).equals(bytes), 'unix socket')
    t.match(paste(dir, text, 'All tickets'), /disk\.img +write/)
    await until('progress', () => /^moved [1-9].*iB/m.test(started.output()))

    started.child.kill('SIGINT')
    t.equal(await within('end', 15_000, started.ended), 0)
    t.equal(started.errors(), '')
    t.strictSame(readdirSync(join(dir, 'tmp')), [], 'no run directory')
  },
)

t.test('several images have a ticket each and are read-only unless told', { skip }, async (t) => {
  const dir = userDir(t)
  for (const name of ['a.img', 'b.img']) writeFileSync(join(dir, name), name)
  const started = start(t, dir, ['--daemon-only', 'a.img', 'b.img'])
  const text = await ready(started)
  t.equal(new Set(text.match(/^ +URL +\S+$/gm)).size, 2)
  t.match(text, /^ +upload +read only/m)
  const lines = text.match(/^ +download +.*$/gm) ?? []
  for (const line of lines) paste(dir, line, 'download')
  for (const name of ['a.img', 'b.img']) {
    t.equal(readFileSync(join(dir, `${name}.copy`), 'utf8'), name)
  }
  started.child.kill('SIGTERM')
  t.equal(await within('end', 15_000, started.ended), 0)
})

for (const [name, program] of [
  ['the daemon', 'daemon'],
  ['the proxy', 'proxy'],
  ['the transfer service', 'transfers'],
] as const) {
  t.test(`${name} that dies is reported with its log, and the others end`, async (t) => {
    const dir = userDir(t)
    writeFileSync(join(dir, 'a.img'), 'text')
    const started = start(t, dir, ['a.img'])
    await ready(started)
    const servers = childrenOf(started.child.pid ?? 0)
    t.equal(servers.length, 3)
    process.kill(serverOf(started.child.pid ?? 0, program), 'SIGKILL')
    t.equal(await within('end', 20_000, started.ended), 1)
    t.match(started.errors(), new RegExp(`^imageio: ${name} was killed by SIGKILL\n.*INFO`, 's'))
    t.ok(servers.every(hasEnded))
    t.strictSame(readdirSync(join(dir, 'tmp')), [])
  })
}

t.test('--daemon-only starts and names the daemon alone', { skip }, async (t) => {
  const dir = userDir(t)
  const started = start(t, dir, ['--daemon-only'])
  const text = await ready(started)
  const main = started.child.pid ?? 0
  t.strictSame(childrenOf(main), [serverOf(main, 'daemon')])
  t.notMatch(text, /proxy|transfer/i)
  paste(dir, text, 'download')
  t.equal(readFileSync(join(dir, 'sample.img.copy')).length, 64 * 2 ** 20)
  started.child.kill('SIGINT')
  t.equal(await within('end', 15_000, started.ended), 0)
  t.strictSame(readdirSync(join(dir, 'tmp')), [])
})

t.test('without an image each start has a sample of its own', { skip }, async (t) => {
  const dir = userDir(t)
  const both = [start(t, dir, ['--daemon-only']), start(t, dir, ['--daemon-only'])] as const
  const texts = await Promise.all(both.map(ready))
  for (const text of texts) t.match(text, /sample\.img +\(64 MiB, writable, a sample, removed/)
  const paths = texts.map((text) => /^\/\S+sample\.img/m.exec(text)?.[0] ?? '')
  t.not(paths[0], paths[1])
  const second = readFileSync(paths[1] ?? '')
  paste(dir, texts[0] ?? '', 'zero')
  t.ok(readFileSync(paths[1] ?? '').equals(second), 'the other one is left alone')
  for (const { child } of both) child.kill('SIGTERM')
  await Promise.all(both.map(({ ended }) => within('end', 15_000, ended)))
  t.strictSame(readdirSync(join(dir, 'tmp')), [])
})

t.test('zero says when space is kept', async (t) => {
  const dir = userDir(t)
  writeFileSync(join(dir, 'a.img'), 'text')
  const kept = start(t, dir, ['--daemon-only', 'a.img', '--writable'])
  t.match(await ready(kept), /^ +zero .*\n +# .*--sparse/m)
  const given = start(t, dir, ['--daemon-only', 'a.img', '--writable', '--sparse'])
  t.notMatch(await ready(given), '--sparse')
})

t.test('SIGTERM to npm ends everything', { skip: without('npm') }, async (t) => {
  const dir = userDir(t)
  const started = startByNpm(t, dir, [])
  await ready(started)
  const [main = 0] = childrenOf(started.child.pid ?? 0)
  const servers = childrenOf(main)
  t.equal(servers.length, 3, 'npm has no shell between')
  started.child.kill('SIGTERM')
  await within('end', 15_000, started.ended)
  t.ok(hasEnded(main))
  t.ok(servers.every(hasEnded))
  t.notOk(readdirSync(join(dir, 'tmp')).some((name) => name.startsWith('imageio-')))
})

t.test('SIGKILL to npm ends everything', { skip: without('npm') }, async (t) => {
  const dir = userDir(t)
  const started = startByNpm(t, dir, [])
  await ready(started)
  const [main = 0] = childrenOf(started.child.pid ?? 0)
  const servers = childrenOf(main)
  t.equal(servers.length, 3)
  started.child.kill('SIGKILL')
  await until('the end of all', () => [main, ...servers].every(hasEnded), { timeoutMs: 15_000 })
  t.notOk(readdirSync(join(dir, 'tmp')).some((name) => name.startsWith('imageio-')))
})

t.test('SIGKILL leaves no server behind', { skip: without('setpriv') }, async (t) => {
  const started = start(t, userDir(t), [])
  await ready(started)
  const servers = childrenOf(started.child.pid ?? 0)
  t.equal(servers.length, 3)
  started.child.kill('SIGKILL')
  await until('the end of the servers', () => servers.every(hasEnded), { timeoutMs: 15_000 })
})

t.test('a host that is not there changes no CA', async (t) => {
  const dir = userDir(t)
  const running = start(t, dir, ['--daemon-only'])
  await ready(running)
  const authority = readFileSync('.dev/pki/ca.pem')
  const wrong = start(t, dir, ['--host', 'no-such-host.invalid'])
  t.equal(await wrong.ended, 1)
  t.match(wrong.errors(), /^imageio: cannot listen on no-such-host\.invalid port 0: .*\n$/)
  t.ok(readFileSync('.dev/pki/ca.pem').equals(authority))
  t.equal(readdirSync(join(dir, 'tmp')).length, 1, 'only that of the running one')
})

t.test('a mistake is one line, and no daemon is started', async (t) => {
  const dir = userDir(t)
  writeFileSync(join(dir, 'a.img'), 'text')
  const missing = start(t, dir, ['a.img', 'missing.img'])
  t.equal(await missing.ended, 1)
  t.equal(missing.errors(), `imageio: ${join(dir, 'missing.img')}: no such file\n`)

  const wrong = start(t, dir, ['--frobnicate'])
  t.equal(await wrong.ended, 2)
  t.match(wrong.errors(), /^imageio: Unknown option '--frobnicate'[^\n]*\n$/)

  const busy = createServer().listen(0, '127.0.0.1')
  await once(busy, 'listening')
  t.teardown(() => void busy.close())
  const { port } = busy.address() as AddressInfo
  const taken = start(t, dir, ['a.img', '--port', `${port}`])
  t.equal(await taken.ended, 1)
  const what = `cannot listen on 127.0.0.1 port ${port}: it is in use`
  const instead = 'choose another with --port, or leave it out for a free one'
  t.equal(taken.errors(), `imageio: ${what}; ${instead}\n`)
})

t.test('help is printed without anything being made', async (t) => {
  const dir = userDir(t)
  const help = start(t, dir, ['--help'])
  t.equal(await help.ended, 0)
  t.match(help.output(), 'Usage: npm start')
  t.notOk(existsSync(join(dir, '.dev')))
})
