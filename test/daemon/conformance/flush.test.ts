import t from 'tap'
import { execFileSync, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { startDaemon, type Daemon } from '../../support/daemon.js'
import { request } from '../../support/http.js'
import { until } from '../../support/wait.js'

function hasStrace(): boolean {
  try {
    execFileSync('strace', ['-V'], { stdio: 'ignore' })
    return process.getuid?.() === 0
  } catch {
    return false
  }
}

/** Counts the daemon's calls that make data durable, as the kernel sees them. */
async function watchSyncs(t: import('tap').Test, daemon: Daemon): Promise<() => number> {
  const file = join(daemon.dir, 'strace')
  const calls = 'trace=fsync,fdatasync,sync_file_range,syncfs'
  const args = ['-f', '-qq', '-o', file, '-e', calls, '-p', String(daemon.pid)]
  const strace = spawn('strace', args, { stdio: 'ignore' })
  t.teardown(() => strace.kill())
  const isTraced = (): boolean =>
    !/TracerPid:\s+0\b/.test(readFileSync(`/proc/${daemon.pid}/status`, 'utf8'))
  await until('strace is attached', isTraced)
  return () => (readFileSync(file, 'utf8').match(/sync\(\d/g) ?? []).length
}

const skip = hasStrace() ? false : 'needs strace and root'

t.test('90-91, 116: what is flushed is flushed before the answer', { skip }, async (t) => {
  const daemon = await startDaemon(t)
  const image = await daemon.addImage()
  const syncs = await watchSyncs(t, daemon)
  for (const [method, query, body, isFlushed] of [
    ['PUT', '', 'data', true],
    ['PUT', '?flush=y', 'data', true],
    ['PUT', '?flush=y', '', true],
    ['PUT', '?flush=n', 'data', false],
    ['PATCH', '', '{"op":"flush"}', true],
    ['PATCH', '', '{"op":"zero","size":5000}', false],
    ['PATCH', '', '{"op":"zero","size":5000,"flush":false}', false],
    ['PATCH', '', '{"op":"zero","size":5000,"flush":true}', true],
  ] as const) {
    const before = syncs()
    t.equal((await request(daemon.remote, method, image.url + query, { body })).status, 200)
    t.equal(syncs() > before, isFlushed, `${method} ${query} ${body}`)
  }
})
