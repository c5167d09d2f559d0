/** The proxy as a process: what its command line says, and what SIGHUP changes. */
import t, { type Test } from 'tap'
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { daemonCommand, startDaemon, writeConfig, type Sections } from '../../support/daemon.js'
import { request } from '../../support/http.js'
import { testPki } from '../../support/pki.js'
import { Pair, startProxy } from '../../support/proxy.js'
import { until } from '../../support/wait.js'

const OFF: Sections = {
  daemon: { drop_privileges: false },
  tls: { enable: false },
  local: { enable: false },
  control: { enable: false },
  handlers: { keys: 'stderr' },
  logger_root: { handlers: 'stderr' },
}

function run(t: Test, sections: Sections, ...args: string[]) {
  const dir = mkdtempSync(join(tmpdir(), 'imageio-test-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  writeConfig(dir, { ...OFF, ...sections })
  const line = daemonCommand(['--conf-dir', dir, ...args], 'imageio-proxy')
  return spawnSync(...line, { encoding: 'utf8', timeout: 10_000 })
}

t.test('the command line', async (t) => {
  t.match(run(t, {}, '--version').stdout, /^imageio-proxy \d+\.\d+\.\d+\n$/)
  t.match(run(t, {}, '--help').stdout, /^Usage: imageio-proxy \[options\]\n/)
  t.match(run(t, {}, '--nonsense'), { status: 2, stderr: /Try imageio-proxy --help/ })
  const shown = JSON.parse(run(t, {}, '--show-config').stdout) as Record<string, object>
  t.match(shown['proxy'], { allowed_daemons: '*:54322', connect_timeout: 10 })
  t.match(run(t, {}, '--check-config'), { status: 0, stdout: 'configuration is good\n' })
})

t.test('--check-config looks at the certificate for daemons', async (t) => {
  const { certFile, keyFile } = testPki()
  const other = testPki('other')
  const good = { backend_http: { cert_file: certFile, key_file: keyFile } }
  t.equal(run(t, good, '--check-config').status, 0)
  for (const file of [other.keyFile, '/nonexistent']) {
    const bad = { backend_http: { cert_file: certFile, key_file: file } }
    t.match(run(t, bad, '--check-config'), {
      status: 1,
      stderr: /^imageio-proxy: \[backend_http\] cannot use key/m,
    })
    t.equal(run(t, bad).status, 1, 'nor does it start')
  }
})

t.test('a file without authorities is no start, and at SIGHUP no change', async (t) => {
  const daemon = await startDaemon(t)
  const dir = mkdtempSync(join(tmpdir(), 'imageio-test-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const caFile = join(dir, 'ca.pem')
  const good = readFileSync(testPki().caFile, 'latin1')
  const bad = ['', 'garbage', readFileSync(testPki().keyFile), `${good}${good.replace('MI', 'XX')}`]
  for (const text of bad) {
    writeFileSync(caFile, text)
    const { status, stderr } = run(t, { backend_http: { ca_file: caFile } })
    t.match({ status, stderr }, { status: 1, stderr: `cannot check daemons against ${caFile}` })
  }
  writeFileSync(caFile, good)
  const proxy = await startProxy(t, { backend_http: { ca_file: caFile } })
  for (const text of bad) {
    writeFileSync(caFile, text)
    const before = proxy.logText().split('cannot reload').length
    proxy.process.kill('SIGHUP')
    await until('it has tried', () => proxy.logText().split('cannot reload').length > before)
  }
  t.match(proxy.logText(), `cannot check daemons against ${caFile}`)
  const image = await new Pair(daemon, proxy).addImage(4096)
  t.equal((await request(proxy.remote, 'GET', image.url)).status, 200)
})

t.test('SIGHUP reads the authorities of daemons again', async (t) => {
  const daemon = await startDaemon(t)
  const dir = mkdtempSync(join(tmpdir(), 'imageio-test-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const caFile = join(dir, 'ca.pem')
  copyFileSync(testPki('strange').caFile, caFile)
  const proxy = await startProxy(t, { backend_http: { ca_file: caFile } })
  const pair = new Pair(daemon, proxy)
  const before = await pair.addImage(4096)
  t.equal((await request(proxy.remote, 'GET', before.url)).status, 502)
  copyFileSync(testPki().caFile, caFile)
  proxy.process.kill('SIGHUP')
  await until('it has', () => proxy.logText().includes('certificate reloaded'))
  const after = await pair.addImage(4096)
  t.equal((await request(proxy.remote, 'GET', after.url)).status, 200)
})

t.test('SIGTERM lets a transfer end', async (t) => {
  const daemon = await startDaemon(t)
  const proxy = await startProxy(t, { daemon: { shutdown_timeout: 30 } })
  const image = await new Pair(daemon, proxy).addImage(Buffer.alloc(48 * 1024 * 1024, 'x'))
  const reply = request(proxy.remote, 'GET', image.url)
  await proxy.ticketWhen(image.id, 'the download has begun', (info) => info.active)
  proxy.process.kill('SIGTERM')
  t.equal((await reply).body.length, 48 * 1024 * 1024)
  t.equal(await proxy.exited(), 0)
})
