/** `npm start -- --transfers DIR`: daemon, proxy and transfer service, and the lines it prints. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { childrenOf, hasEnded, ready, start, userDir } from '../support/start.js'
import { run, without } from '../support/tools.js'
import { until, within } from '../support/wait.js'

const LINES = [
  ...['add disk', 'some data', 'add transfer', 'wait for it', 'to the daemon', 'to the proxy'],
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
  const [image = ''] = readdirSync(disks)
  t.ok(readFileSync(join(disks, image)).equals(readFileSync(join(dir, 'mydisk.img'))))
  t.match(text, /^ +python sdk +connection = ovirtsdk4\.Connection\(url="https:/m)

  const children = childrenOf(started.child.pid ?? 0)
  t.equal(children.length, 3, 'daemon, proxy, transfer service')
  started.child.kill('SIGINT')
  t.equal(await within('end', 20_000, started.ended), 0)
  t.ok(children.every(hasEnded))
  t.equal(started.errors(), '')
  t.strictSame(readdirSync(join(dir, 'tmp')), [], 'no run directory')
  t.strictSame(readdirSync(disks), [image])
})

const skip = without('curl', 'qemu-nbd')

t.test('the NBD server of an unfinished transfer ends as well', { skip }, async (t) => {
  const dir = userDir(t)
  const started = start(t, dir, ['--transfers', 'kept'])
  const text = await ready(started)
  const script = ['add disk', 'add transfer', 'wait for it'].map((name) => lineOf(text, name))
  script[0] = script[0]?.replace('<format>raw', '<format>cow') ?? 'false'
  script[1] = script[1]?.replace('<direction>', '<format>raw</format><direction>') ?? 'false'
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
  const dir = userDir(t)
  const started = start(t, dir, ['--transfers', '/dev/null/x'])
  t.equal(await within('end', 20_000, started.ended), 1)
  t.match(started.errors(), /^imageio: cannot use \/dev\/null\/x: /)
  t.strictSame(readdirSync(join(dir, 'tmp')), [])
})

function lineOf(text: string, name: string): string {
  return new RegExp(`^  ${name} +(.*)$`, 'm').exec(text)?.[1] ?? 'false'
}
