/** The benchmark itself, on next to nothing: figures are not looked at. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { run, without } from '../support/tools.js'

const MAIN = 'dist/bench/run.js'

/** Case and system of each row. */
async function measure(t: Test, ...args: string[]): Promise<string[]> {
  const store = t.testdir({})
  const small = ['--size', '4', '--runs', '1', '--extents', '1001', '--store', store]
  const output = await run(process.execPath, [MAIN, ...small, ...args])
  t.strictSame(readdirSync(store), [], 'nothing is left behind')
  return output
    .split('\n')
    .filter((line) => /^\| (?!case|---)/.test(line))
    .map((line) => line.split(' | ').slice(0, 2).join(': ').slice(2))
    .map((row) => row.replace(/ [^ ]+: /, ': ')) // the file system's name
}

t.test('files, beside nginx', { skip: without('curl', 'nginx') }, async (t) => {
  const rows = await measure(t, '--cases', '^(GET ×4 TLS|PUT ×1 unix)')
  t.strictSame(rows, [
    'GET ×4 TLS: imageio',
    'GET ×4 TLS: imageio plain',
    'GET ×4 TLS: nginx',
    'PUT ×1 unix: imageio',
    'PUT ×1 unix: imageio plain',
    'PUT ×1 unix: nginx',
  ])
})

t.test(
  'NBD, beside files and nbdcopy',
  { skip: without('curl', 'qemu-nbd', 'nbdcopy') },
  async (t) => {
    const rows = await measure(t, '--cases', '^NBD PUT ×4 TLS')
    t.strictSame(rows, [
      'NBD PUT ×4 TLS: imageio NBD',
      'NBD PUT ×4 TLS: imageio file',
      'NBD PUT ×4 TLS: nbdcopy',
    ])
  },
)

t.test('requests, beside nginx', { skip: without('curl', 'nginx') }, async (t) => {
  const cases = '^requests (GET 4 KiB ×8|OPTIONS ×1 beside 4 PUT)'
  const rows = await measure(t, '--seconds', '0.1', '--cases', cases)
  t.strictSame(rows, [
    'requests GET 4 KiB ×8: imageio',
    'requests GET 4 KiB ×8: nginx',
    'requests OPTIONS ×1 beside 4 PUT: imageio',
  ])
})

t.test(
  'the proxy, beside nginx and HAProxy before the same daemon',
  { skip: without('curl', 'nginx', 'haproxy') },
  async (t) => {
    const rows = await measure(t, '--cases', '^proxy GET ×4')
    const proxies = ['imageio-proxy', 'imageio-proxy plain', 'nginx', 'HAProxy']
    t.strictSame(
      rows,
      ['imageio direct', ...proxies].map((system) => `proxy GET ×4 TLS: ${system}`),
    )
  },
)

t.test('checksums', { skip: without('curl', 'qemu-nbd', 'b2sum') }, async (t) => {
  t.strictSame(await measure(t, '--cases', 'checksum'), [
    'checksum: imageio file',
    'checksum: imageio NBD',
    'checksum: BLAKE2b in memory, 1 core',
    'checksum: b2sum',
  ])
})

t.test('HTTP/2, beside HTTP/1.1', { skip: without('curl', 'h2load') }, async (t) => {
  t.strictSame(await measure(t, '--cases', '^HTTP/2 GET ×4'), [
    'HTTP/2 GET ×4 TLS: imageio HTTP/2',
    'HTTP/2 GET ×4 TLS: imageio HTTP/1.1',
  ])
})

t.test('threads', { skip: without('curl') }, async (t) => {
  const rows = await measure(t, '--cases', '^threads PUT ×1')
  t.strictSame(
    rows.map((row) => row.replace(/: .*/, '')),
    ['threads PUT ×1 TLS'],
  )
})

t.test('memory', { skip: without('curl') }, async (t) => {
  const rows = await measure(t, '--cases', '^memory of PUT ×4 ')
  t.strictSame(
    rows.map((row) => row.replace(/: .*/, '')),
    ['memory of PUT ×4 TLS'],
  )
})

t.test('extents', { skip: without('curl', 'qemu-nbd', 'qemu-img', 'nbdinfo') }, async (t) => {
  const rows = await measure(t, '--cases', '^extents (1001|data first)')
  const systems = ['imageio NBD', 'imageio file', 'nbdinfo', 'qemu-img']
  t.strictSame(
    rows,
    ['data first 8 TiB', '1001'].flatMap((kind) =>
      systems.map((system) => `extents ${kind}: ${system}`),
    ),
  )
})

t.test('nothing to measure is a wrong argument', { skip: without('curl') }, async (t) => {
  const store = t.testdir({})
  for (const [args, reason] of [
    [['--cases', 'NBDx', '--store', store], /^bench: no case matches [^\n]+\n$/m],
    [['--store', join(store, 'nope')], /^bench: --store .*nope: no directory to write to\n$/m],
  ] as const) {
    await t.rejects(run(process.execPath, [MAIN, ...args]), { code: 2, stderr: reason })
  }
})

t.test('one system alone', { skip: without('curl', 'qemu-nbd') }, async (t) => {
  const rows = await measure(t, '--cases', '^(NBD )?GET ×1 unix', '--system', 'imageio')
  t.strictSame(rows, [
    'GET ×1 unix: imageio',
    'NBD GET ×1 unix: imageio NBD',
    'NBD GET ×1 unix: imageio file',
  ])
})
