import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { loadDaemonConfig } from '../../../daemon/config.js'
import type { Preflight } from '../../../core/process/host-checks.js'
import { preflight } from '../../../core/process/preflight.js'
import { daemonCommand, writeConfig, type Sections } from '../../support/daemon.js'
import { testPki } from '../../support/pki.js'

const isRoot = process.geteuid?.() === 0
const asRoot = { skip: !isRoot && 'needs root' }

/** A configuration that starts, in a directory of its own. */
function good(t: Test): { dir: string; sections: Sections } {
  const dir = mkdtempSync(join(tmpdir(), 'imageio-test-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const { caFile, certFile, keyFile } = testPki()
  const sections = {
    daemon: { run_dir: dir, drop_privileges: false },
    tls: { key_file: keyFile, cert_file: certFile, ca_file: caFile },
    remote: { host: '127.0.0.1' },
    local: { socket: join(dir, 'data.sock') },
    control: { socket: join(dir, 'control.sock') },
    handler_logfile: { args: `("${join(dir, 'daemon.log')}",)` },
  }
  return { dir, sections }
}

async function check(dir: string, sections: Sections, missing?: string): Promise<Preflight> {
  writeConfig(dir, sections)
  return preflight(loadDaemonConfig(dir, '/nonexistent').config, missing)
}

/** What is found when one section differs from a good configuration. */
async function checkWith(t: Test, section: string, options: Sections[string]): Promise<Preflight> {
  const { dir, sections } = good(t)
  return check(dir, { ...sections, [section]: { ...sections[section], ...options } })
}

t.test('a good configuration has neither problems nor warnings', async (t) => {
  const { dir, sections } = good(t)
  t.strictSame(await check(dir, sections), { problems: [], warnings: [] })
  t.notOk(existsSync(join(dir, 'daemon.log')), 'and nothing is made')
})

t.test('a control service without any authentication is warned of', async (t) => {
  const options = { transport: 'tcp', port: 0 }
  const { dir, sections } = good(t)
  t.match(await check(dir, { ...sections, control: options }), {
    problems: [],
    warnings: [/^\[control\] transport: tcp lets every user of this host manage tickets/],
  })
  const off = { ...options, enable: false }
  t.strictSame((await check(dir, { ...sections, control: off })).warnings, [])
})

t.test('one that runs already is not in the way', async (t) => {
  const { dir, sections } = good(t)
  const server = createServer().listen(join(dir, 'control.sock'))
  await once(server, 'listening')
  t.teardown(() => void server.close())
  writeFileSync(join(dir, 'daemon.log'), 'text')
  t.strictSame(await check(dir, sections), { problems: [], warnings: [] })
})

t.test('user and group must exist when they are needed', asRoot, async (t) => {
  const daemon = { drop_privileges: true, user_name: 'no-such-user', group_name: 'no-such-group' }
  t.match(await checkWith(t, 'daemon', daemon), {
    problems: [
      '[daemon] cannot drop privileges: unknown group "no-such-group"',
      '[daemon] cannot drop privileges: unknown user "no-such-user"',
    ],
  })
  const { problems } = await checkWith(t, 'daemon', { ...daemon, drop_privileges: false })
  t.strictSame(problems, [])
})

t.test('key, certificate and authorities must be there and be such', async (t) => {
  for (const key of ['key_file', 'cert_file', 'ca_file']) {
    const missing = await checkWith(t, 'tls', { [key]: '/nonexistent/x.pem' })
    t.match(missing, { problems: [/^\[tls\] .*\/nonexistent\/x\.pem/], warnings: [] }, key)
    t.equal(missing.problems.length, 1, key)
  }
  const wrong = await checkWith(t, 'backend_http', { ca_file: '/dev/null' })
  t.match(wrong, { problems: ['[backend_http] ca_file: /dev/null holds no certificate (PEM)'] })
})

t.test('authorities for nbds must be readable by who the daemon becomes', asRoot, async (t) => {
  const { dir, sections } = good(t)
  const [own, shared] = [join(dir, 'own.pem'), join(dir, 'shared.pem')]
  for (const path of [own, shared]) copyFileSync(testPki().caFile, path)
  chmodSync(own, 0o600)
  chmodSync(shared, 0o644)
  const checkAs = async (user: string, tlsFile: string, nbdFile: string): Promise<Preflight> => {
    const { problems, warnings } = await check(dir, {
      ...sections,
      daemon: { ...sections['daemon'], drop_privileges: true, user_name: user, group_name: 'root' },
      tls: { ...sections['tls'], ca_file: tlsFile },
      backend_nbd: { ca_file: nbdFile },
    })
    return { problems, warnings: warnings.filter((warning) => warning.includes('ca_file')) }
  }
  const warning = (section: string): string =>
    `[${section}] ca_file: ${own} may not be read by nobody: no nbds: image can be opened`
  t.match(await checkAs('nobody', shared, own), {
    problems: [],
    warnings: [warning('backend_nbd')],
  })
  t.match(await checkAs('nobody', own, ''), { problems: [], warnings: [warning('tls')] })
  t.strictSame(await checkAs('nobody', own, shared), { problems: [], warnings: [] })
  t.strictSame(await checkAs('root', own, own), { problems: [], warnings: [] })
  t.match(await checkAs('nobody', shared, '/nonexistent'), {
    problems: ['[backend_nbd] ca_file: /nonexistent does not exist'],
  })
})

t.test('the native front is tried, and leaves nothing behind', async (t) => {
  const threads = (): string[] =>
    readdirSync('/proc/self/task').map((id) => readFileSync(`/proc/self/task/${id}/comm`, 'utf8'))
  const { dir, sections } = good(t)
  t.strictSame(await check(dir, { ...sections, transport: { native: 'on', threads: 3 } }), {
    problems: [],
    warnings: [],
  })
  t.notOk(threads().includes('imageio-front\n'))
})

t.test('a front that cannot be had is wrong for who asks for it', async (t) => {
  const { dir, sections } = good(t)
  const checkNative = (native: string): Promise<Preflight> =>
    check(dir, { ...sections, transport: { native } }, 'undefined symbol: SSL_read_ex')
  const fault = '[transport] native: the native front cannot be used: undefined symbol: SSL_read_ex'
  t.strictSame(await checkNative('on'), { problems: [fault], warnings: [] })
  t.strictSame(await checkNative('auto'), {
    problems: [],
    warnings: [`${fault}, and bodies go the plain way`],
  })
  t.strictSame(await checkNative('off'), { problems: [], warnings: [] })
})

t.test('signed tickets need their keys and a place for revocations', async (t) => {
  const { dir, sections } = good(t)
  const signed = (keys: string, file: string) => ({
    ...sections,
    signed_tickets: { enable: true, audience: 'host', keys, revocations_file: file },
    backend_file: { allowed_paths: '/' },
  })
  t.match(await check(dir, signed('/nonexistent/keys', '/nonexistent/file')), {
    problems: [
      '[signed_tickets] keys: /nonexistent/keys does not exist',
      '[signed_tickets] revocations_file: /nonexistent does not exist',
    ],
  })
  t.strictSame((await check(dir, signed(dir, join(dir, 'file')))).problems, [])
})

t.test('a certificate out of its time is a warning', async (t) => {
  const { dir, sections } = good(t)
  const file = (name: string): string => join(dir, name)
  const [key, request, cert] = [file('key.pem'), file('csr.pem'), file('cert.pem')]
  const openssl = (...args: string[]): void => void execFileSync('openssl', args, { stdio: 'pipe' })
  openssl(
    ...['req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
    ...['-subj', '/CN=old', '-keyout', key, '-out', request],
  )
  openssl('x509', '-req', '-in', request, '-signkey', key, '-days', '-1', '-out', cert)
  const tls = { ...sections['tls'], key_file: key, cert_file: cert }
  t.match(await check(dir, { ...sections, tls }), {
    problems: [],
    warnings: [/^\[tls\] cert_file: .*cert\.pem has expired, on \d{4}-/],
  })
})

t.test('the log needs its directory', async (t) => {
  const problem = async (path: string): Promise<readonly string[]> =>
    (await checkWith(t, 'handler_logfile', { args: `("${path}",)` })).problems
  t.strictSame(await problem('/nonexistent/daemon.log'), [
    '[handler_logfile] args: /nonexistent does not exist',
  ])
  t.match(await problem('/proc/self/daemon.log'), [/^\[handler_logfile\] args: \/proc\/self /])
  t.strictSame(await problem('/dev/null'), [
    '[handler_logfile] args: /dev/null is not a regular file',
  ])
  const { dir, sections } = good(t)
  const stderr = {
    ...sections,
    handler_logfile: { args: '("/nonexistent/daemon.log",)' },
    handlers: { keys: 'stderr' },
    logger_root: { handlers: 'stderr' },
  }
  t.strictSame(await check(dir, stderr), { problems: [], warnings: [] }, 'only if it is used')
})

t.test('a log its user cannot rotate is a warning', asRoot, async (t) => {
  const { dir, sections } = good(t)
  const log = join(dir, 'log')
  mkdirSync(log, { mode: 0o755 })
  const dropped = {
    ...sections,
    daemon: { run_dir: dir, user_name: 'games', group_name: 'games' },
    handler_logfile: { args: `("${log}/daemon.log",)` },
  }
  t.match(await check(dir, dropped), {
    problems: [],
    warnings: [/^\[handler_logfile\] .*log does not belong to games/],
  })
  chownSync(log, Number(execFileSync('id', ['-u', 'games'], { encoding: 'utf8' })), 0)
  t.strictSame(await check(dir, dropped), { problems: [], warnings: [] })
})

t.test('the host must be this one', async (t) => {
  t.match(await checkWith(t, 'remote', { host: 'no-such-host.invalid' }), {
    problems: [/^\[remote\] host: no-such-host\.invalid does not resolve/],
  })
  t.match(await checkWith(t, 'remote', { host: '192.0.2.1' }), {
    problems: ['[remote] host: 192.0.2.1 is not an address of this machine'],
  })
  for (const host of ['::', '', 'localhost', '0.0.0.0']) {
    t.strictSame((await checkWith(t, 'remote', { host })).problems, [], host)
  }
})

t.test('a socket needs its directory and its place', async (t) => {
  for (const section of ['local', 'control']) {
    t.match(await checkWith(t, section, { socket: '/nonexistent/sock' }), {
      problems: [`[${section}] socket: /nonexistent does not exist`],
    })
    t.match(await checkWith(t, section, { socket: '/dev/null' }), {
      problems: [`[${section}] socket: /dev/null exists and is no socket`],
    })
    for (const options of [{ socket: '@name' }, { enable: false, socket: '/nonexistent/sock' }]) {
      t.strictSame((await checkWith(t, section, options)).problems, [])
    }
  }
})

t.test(
  'the directory that the unit makes is only a warning',
  { skip: existsSync('/run/ovirt-imageio') && 'a daemon is installed here' },
  async (t) => {
    t.match(await checkWith(t, 'control', { socket: '/run/ovirt-imageio/sock' }), {
      problems: [],
      warnings: [/^\[control\] socket: \/run\/ovirt-imageio does not exist; the systemd unit/],
    })
  },
)

t.test('--check-config prints a line for each problem and ends with 1', async (t) => {
  const { dir, sections } = good(t)
  const run = () =>
    spawnSync(...daemonCommand(['--conf-dir', dir, '--check-config']), { encoding: 'utf8' })
  writeConfig(dir, sections)
  t.match(run(), { status: 0, stdout: 'configuration is good\n', stderr: '' })
  const [key, cert] = [join(dir, 'other.key'), join(dir, 'cert.pem')]
  copyFileSync(testPki().certFile, cert)
  writeFileSync(key, 'no key')
  writeConfig(dir, {
    ...sections,
    tls: { key_file: key, cert_file: cert, ca_file: '/nonexistent/ca.pem' },
    control: { socket: '/nonexistent/sock' },
  })
  const { status, stdout, stderr } = run()
  t.equal(status, 1)
  t.equal(stdout, '')
  t.match(stderr, /^(imageio-daemon: \[[a-z]+\] [^\n]+\n){3}$/)
  writeConfig(dir, {
    ...sections,
    remote: { host: '192.0.2.1', port: 70_000 },
    limits: { header_timeout: 0, idle_timeout: 'x' },
    local: { socket: 'relative' },
    control: { socket: '/nonexistent/sock', sokket: '' },
    lokal: { enable: 'false' },
  })
  const flawed = run().stderr.trimEnd().split('\n')
  t.match(
    flawed.sort(),
    [
      /conf:12: \[remote\] port: must be/,
      /conf:15: \[local\] socket: must be/,
      /conf:25: \[limits\] header_timeout: must be/,
      /conf:26: \[limits\] idle_timeout: must be/,
      /: \[control\] socket: \/nonexistent/,
      /: \[remote\] host: 192\.0\.2\.1 is not an address/,
      /^warning: .*: \[control\] sokket: unknown option, ignored/,
      /^warning: .*: \[lokal\] enable: unknown section, ignored/,
    ],
    'also what the host lacks and what is ignored, when values are wrong',
  )
  t.equal(flawed.length, 8)
})
