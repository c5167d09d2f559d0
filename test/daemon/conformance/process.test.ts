import t, { type Test } from 'tap'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import tls from 'node:tls'
import {
  daemonCommand,
  freePort,
  startDaemon,
  ticketFields,
  writeConfig,
  type Sections,
} from '../../support/daemon.js'
import { request } from '../../support/http.js'
import { testPki } from '../../support/pki.js'
import { until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'

const OFF: Sections = { tls: { enable: false }, local: { enable: false } }

interface Run {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs the daemon to its end: it must end by itself. */
function run(dir: string, ...args: string[]): Run {
  const options = { encoding: 'utf8', timeout: 10_000 } as const
  return spawnSync(...daemonCommand(['--conf-dir', dir, ...args]), options)
}

function confDir(t: Test, sections: Sections | string = OFF): string {
  const dir = mkdtempSync(join(tmpdir(), 'imageio-test-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  mkdirSync(join(dir, 'conf.d'))
  if (typeof sections === 'string') writeFileSync(join(dir, 'conf.d', '50-test.conf'), sections)
  else writeConfig(dir, sections)
  return dir
}

type Shown = Record<string, Record<string, unknown>>

function show(dir: string): Shown {
  const { status, stdout, stderr } = run(dir, '--show-config')
  if (status !== 0) throw new Error(`${status} ${stderr}`)
  return JSON.parse(stdout) as Shown
}

/** Ends with 1 and says why. */
function expectFailure(t: Test, dir: string, what: string, ...args: string[]): void {
  const { status, stderr, stdout } = run(dir, ...args)
  t.equal(status, 1, what)
  t.match(stderr + stdout, /\S/, 'and says why')
  t.notMatch(stderr, /^\s+at .*\(.*:\d+:\d+\)/m, 'without a stack')
}

t.test('230: without configuration files it does not start', async (t) => {
  const dir = confDir(t)
  rmSync(join(dir, 'conf.d', '50-test.conf'))
  writeFileSync(join(dir, 'conf.d', 'x.conf.disabled'), '[tls]\nenable = false\n')
  expectFailure(t, dir, 'no *.conf')
  expectFailure(t, join(dir, 'missing'), 'no directory')
})

/** A mount namespace of its own, in which the vendor's directory exists. */
const OVERLAY = `
  mount -t overlay overlay -o "lowerdir=$1:/usr/lib" /usr/lib || exit 77
  shift
  exec "$@"`

t.test('231: the file with the later name wins, and /etc over the vendor', async (t) => {
  const dir = confDir(t, {
    ...OFF,
    daemon: { max_connections: 50, user_name: 'a', group_name: 'a' },
  })
  const vendor = mkdtempSync(join(tmpdir(), 'imageio-vendor-'))
  t.teardown(() => rmSync(vendor, { recursive: true }))
  const shipped = join(vendor, 'ovirt-imageio')
  writeConfig(shipped, { daemon: { max_connections: 60, user_name: 'b' } }, '60-b.conf')
  writeConfig(shipped, { daemon: { group_name: 'vendor' } }, '90-c.conf')
  writeConfig(dir, { daemon: { max_connections: 90 } }, '90-c.conf')
  writeConfig(dir, { daemon: { group_name: 'etc' } }, '91-d.conf')
  writeConfig(shipped, { daemon: { group_name: 'vendor' } }, '91-d.conf')
  const [program, rest] = daemonCommand(['--conf-dir', dir, '--show-config'])
  const args = ['--mount', 'sh', '-c', OVERLAY, 'sh', vendor, program, ...rest]
  const { status, stdout, stderr } = spawnSync('unshare', args, { encoding: 'utf8' })
  if (status !== 0) {
    t.comment(`no mount namespaces here: ${stderr}`)
    return
  }
  const { daemon } = JSON.parse(stdout) as Shown
  t.match(daemon, { max_connections: 90, user_name: 'b', group_name: 'etc' })
})

t.test('232: unknown options are ignored with a warning, bad values are fatal', async (t) => {
  const unknown = {
    ...OFF,
    daemon: { no_such_option: 1, drop_privileges: false },
    control: { enable: false },
    handlers: { keys: 'stderr' },
    logger_root: { handlers: 'stderr' },
    no_such_section: { a: 1 },
  }
  const { status, stderr, stdout } = run(confDir(t, unknown), '--check-config')
  t.equal(status, 0)
  t.match(stderr + stdout, /no_such_option/)
  t.match(stderr + stdout, /no_such_section/)
  for (const [section, key, value] of [
    ['daemon', 'max_connections', 'many'],
    ['daemon', 'max_connections', '1.5'],
    ['local', 'enable', 'maybe'],
    ['daemon', 'poll_interval', 'often'],
    ['backend_file', 'buffer_size', '0'],
  ] as const) {
    const dir = confDir(t, { ...OFF, [section]: { ...OFF[section], [key]: value } })
    const { status, stderr, stdout } = run(dir, '--show-config')
    t.equal(status, 1, `${key} = ${value}`)
    for (const part of [section, key, '50-test.conf']) t.ok((stderr + stdout).includes(part), part)
  }
  const start = '[tls]\nenable = false\n'
  expectFailure(t, confDir(t, `${start}enable = true\n`), 'an option twice')
  expectFailure(t, confDir(t, `${start}[tls]\nkey_file = x\n`), 'a section twice')
  expectFailure(t, confDir(t, `${start}no equals sign\n`), 'not a configuration')
})

t.test('233: booleans have many names', async (t) => {
  const word = (value: string): unknown =>
    show(confDir(t, { ...OFF, local: { enable: value } }))['local']?.['enable']
  for (const yes of ['true', 'yes', 'ON', '1', 'Yes']) t.equal(word(yes), true, yes)
  for (const no of ['false', 'No', 'off', '0']) t.equal(word(no), false, no)
})

t.test('234: the configuration is shown with every section and typed values', async (t) => {
  const config = show(confDir(t, { ...OFF, local: { socket: '@name' } }))
  t.match(config, {
    backend_file: { buffer_size: 8388608 },
    backend_http: { buffer_size: 8388608, ca_file: '' },
    backend_nbd: { buffer_size: 8388608 },
    control: { enable: true, transport: 'unix', socket: '/run/ovirt-imageio/sock', port: -1 },
    daemon: { poll_interval: 1, max_connections: 8, inactivity_timeout: 60, drop_privileges: true },
    formatters: { keys: 'long' },
    formatter_long: { format: String },
    handlers: { keys: 'logfile' },
    handler_logfile: { class: String, args: String, level: 'DEBUG', formatter: 'long' },
    handler_stderr: { class: String, args: String, level: 'DEBUG', formatter: 'long' },
    local: { enable: true, socket: '\0name' },
    logger_root: { level: 'INFO', handlers: 'logfile', propagate: 0 },
    loggers: { keys: 'root' },
    profile: { filename: '/run/ovirt-imageio/profile' },
    remote: { host: '::', port: 54322 },
    tls: { enable: false, key_file: '', cert_file: '', ca_file: '', enable_tls1_1: false },
  })
  const names = Object.keys(config)
  t.strictSame(names, [...names].sort())
})

t.test('235: TLS needs a key and a certificate', async (t) => {
  const { certFile, keyFile } = testPki()
  expectFailure(t, confDir(t, { local: { enable: false } }), 'neither')
  expectFailure(t, confDir(t, { tls: { key_file: keyFile } }), 'no certificate')
  const missing = { tls: { key_file: '/nonexistent', cert_file: certFile } }
  const start = { handlers: { keys: 'stderr' }, logger_root: { handlers: 'stderr' } }
  const base = { ...start, daemon: { drop_privileges: false }, control: { enable: false } }
  const port = await freePort()
  const remote = { host: '127.0.0.1', port }
  expectFailure(t, confDir(t, { ...base, ...missing, remote }), 'a key that is not there')
})

t.test('236: ports and transports', async (t) => {
  const port = (value: number): Sections => ({ ...OFF, remote: { port: value } })
  expectFailure(t, confDir(t, port(-1)), 'port -1', '--show-config')
  expectFailure(t, confDir(t, port(65536)), 'port 65536', '--show-config')
  t.equal(show(confDir(t, port(65535)))['remote']?.['port'], 65535)
  const control = (options: Record<string, string | number>): Sections => ({
    ...OFF,
    control: options,
  })
  expectFailure(t, confDir(t, control({ transport: 'foo' })), 'transport', '--show-config')
  expectFailure(t, confDir(t, control({ transport: 'tcp' })), 'no port', '--show-config')
  t.match(show(confDir(t, control({ transport: 'TCP', port: 0 }))), { control: { port: 0 } })
})

t.test('237: port 0 takes a free one, which the log tells', async (t) => {
  const daemon = await startDaemon(t, { config: { remote: { port: 0 } }, skips: ['remote'] })
  const port = await until('the port is told', () => {
    const [, told] = /"service":"remote"[^\n]*"port":(\d+)/.exec(daemon.logText()) ?? []
    return told === undefined ? undefined : Number(told)
  })
  t.ok(port > 0 && port <= 65535)
  const target = { host: '127.0.0.1', port, ca: daemon.ca }
  t.equal((await request(target, 'GET', '/info/')).status, 200)
})

t.test('238: only TLS 1.2 and 1.3 with authenticated encryption', async (t) => {
  const daemon = await startDaemon(t)
  const { ca, port } = daemon
  const connect = (options: tls.ConnectionOptions): Promise<string> =>
    new Promise((resolve) => {
      const socket = tls.connect({ host: '127.0.0.1', port, ca, ...options }, () => {
        const { name } = socket.getCipher()
        resolve(`${socket.getProtocol()} ${name}`)
        socket.destroy()
      })
      socket.once('error', () => resolve('refused'))
    })
  const old = { minVersion: 'TLSv1', ciphers: 'ALL:@SECLEVEL=0' } as const
  t.equal(await connect({ ...old, maxVersion: 'TLSv1.1' }), 'refused')
  t.equal(await connect({ ...old, maxVersion: 'TLSv1' }), 'refused')
  t.match(await connect({}), /^TLSv1\.3 TLS_(AES|CHACHA)/)
  t.match(await connect({ maxVersion: 'TLSv1.2' }), /^TLSv1\.2 .*(GCM|CHACHA20)/)
  for (const ciphers of ['ECDHE-ECDSA-AES128-SHA256', 'ECDHE-ECDSA-AES256-SHA', 'AES128-SHA']) {
    const weak = { maxVersion: 'TLSv1.2', ciphers: `${ciphers}:@SECLEVEL=0` } as const
    t.equal(await connect(weak), 'refused', ciphers)
  }
  t.equal((await request(daemon.remote, 'GET', '/info/')).status, 200)
})

t.test('241: a ticket file is there from the start', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'imageio-test-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  const file = join(dir, 'ticket.json')
  const ticket = { ...ticketFields(), url: `file://${file}`, size: 10 }
  writeFileSync(file, JSON.stringify(ticket))
  const daemon = await startDaemon(t, { args: ['--ticket', file] })
  const { size } = await daemon.ticket(ticket.uuid)
  t.equal(size, 10)
  t.equal((await request(daemon.remote, 'GET', `/images/${ticket.uuid}`)).status, 200)
  const base: Sections = {
    ...OFF,
    daemon: { drop_privileges: false },
    remote: { host: '127.0.0.1', port: 0 },
    control: { enable: false },
    handlers: { keys: 'stderr' },
    logger_root: { handlers: 'stderr' },
  }
  for (const text of ['{', '[]', '{"uuid":"x"}', '']) {
    writeFileSync(file, text)
    expectFailure(t, confDir(t, base), `ticket ${text}`, '--ticket', file)
  }
  expectFailure(t, confDir(t, base), 'no ticket file', '--ticket', join(dir, 'missing'))
})

t.test('180: a second daemon on the same addresses fails and leaves the first alone', async (t) => {
  const first = await startDaemon(t)
  const sections = {
    ...OFF,
    remote: { host: '127.0.0.1', port: 0 },
    control: { transport: 'unix', socket: first.controlSocket },
  }
  expectFailure(t, confDir(t, sections), 'the control socket is taken')
  expectFailure(
    t,
    confDir(t, { ...sections, remote: { host: '127.0.0.1', port: first.port } }),
    'the port is taken',
  )
  const image = await first.addImage()
  t.equal((await request(first.remote, 'GET', image.url)).status, 200)
})

t.test('241: usage', async (t) => {
  const dir = confDir(t)
  const help = run(dir, '--help')
  t.equal(help.status, 0)
  for (const option of ['--conf-dir', '--show-config', '--ticket']) t.match(help.stdout, option)
  t.equal(run(dir, '--no-such-option').status, 2)
})

t.test('242: readiness is told when all services listen, and the end, too', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'imageio-test-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  const path = join(dir, 'notify')
  try {
    // Node has no Unix datagram sockets.
    execFileSync('python3', ['-c', 'import socket'])
  } catch {
    t.comment('needs python3')
    return
  }
  const script =
    'import socket,sys\n' +
    's=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); s.bind(sys.argv[1])\n' +
    'while True: print(s.recv(4096).decode(), flush=True)'
  const listener = spawn('python3', ['-c', script, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => listener.kill())
  let received = ''
  listener.stdout.setEncoding('utf8').on('data', (text: string) => void (received += text))
  await until('the listener is there', () => {
    try {
      return statSync(path).isSocket()
    } catch {
      return false
    }
  })
  process.env['NOTIFY_SOCKET'] = path
  t.teardown(() => {
    delete process.env['NOTIFY_SOCKET']
  })
  const daemon = await startDaemon(t, { config: { daemon: { systemd_enable: true } } })
  await until('READY=1', () => received.includes('READY=1'))
  daemon.process.kill('SIGTERM')
  t.equal(await daemon.exited(), 0)
  await until('STOPPING=1', () => received.includes('STOPPING=1'))
  t.pass('both were told')
})

t.test('who has asked for nothing does not hold up the end', async (t) => {
  const daemon = await startDaemon(t, { config: { daemon: { shutdown_timeout: 60 } } })
  const { host = '', port } = daemon.remote as { host?: string; port: number }
  const wires = await Promise.all([
    Wire.open(daemon.remote),
    Wire.open(daemon.local),
    Wire.open(daemon.remote),
    // Without the front Node's own server waits for the handshake.
    ...(process.env['IMAGEIO_TEST_NATIVE'] === 'off' ? [] : [Wire.open({ host, port })]),
  ])
  t.teardown(() => wires.forEach((wire) => wire.destroy()))
  await wires[2].send('GET /info/ HTTP/1.1\r\nHost')
  await until('they are known', () => daemon.logText().split('connection opened').length > 3)
  daemon.process.kill('SIGTERM')
  t.equal(await daemon.exited(), 0)
})
