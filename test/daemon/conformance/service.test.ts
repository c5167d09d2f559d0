import t from 'tap'
import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import tls from 'node:tls'
import { startDaemon, type Daemon } from '../../support/daemon.js'
import { openH2, request } from '../../support/http.js'
import { testPki } from '../../support/pki.js'
import { until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'

const ids = (...args: string[]): string => execFileSync('id', args, { encoding: 'utf8' }).trim()

const skip = process.getuid?.() === 0 ? false : 'needs root'

t.test('240: root becomes the configured user once all is open', { skip }, async (t) => {
  const logs = t.testdir({})
  const log = join(logs, 'daemon.log')
  chmodSync(logs, 0o755)
  const daemon = await startDaemon(t, {
    config: {
      daemon: { drop_privileges: true, user_name: 'nobody', group_name: 'nogroup' },
      handlers: { keys: 'logfile' },
      logger_root: { level: 'INFO', handlers: 'logfile' },
      handler_logfile: { args: `('${log}',)` },
    },
  })
  const status = readFileSync(`/proc/${daemon.pid}/status`, 'utf8')
  const line = (name: string): string[] =>
    (new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? '').split(/\s+/)
  const uid = Number(ids('-u', 'nobody'))
  const gid = Number(ids('-g', 'nobody'))
  t.strictSame(line('Uid'), Array<string>(4).fill(String(uid)))
  t.strictSame(line('Gid'), Array<string>(4).fill(String(gid)))
  const groups = new Set(line('Groups').filter((group) => group !== ''))
  for (const group of ids('-G', 'nobody').split(' '))
    t.ok(groups.has(group) || Number(group) === gid)
  t.notOk(groups.has('0'), 'not in the group of root')
  t.strictSame(line('CapEff'), ['0000000000000000'])
  for (const path of [join(daemon.dir, 'run'), daemon.controlSocket, log]) {
    const { uid: owner } = statSync(path)
    t.equal(owner, uid, path)
  }
  t.equal(statSync(daemon.controlSocket).mode & 0o777, 0o660)
  chmodSync(daemon.dir, 0o755)
  const image = await daemon.addImage(100, { ops: ['read'] })
  chmodSync(image.file, 0o644)
  t.equal((await request(daemon.remote, 'GET', image.url)).status, 200)
  chmodSync(image.file, 0o600)
  const secret = await daemon.addTicketFor(image.file, { size: 100, ops: ['read'] })
  t.equal((await request(daemon.remote, 'GET', secret.url)).status, 500, "root's files are closed")
})

t.test('what root had recorded is the next process’s, whoever that is', { skip }, async (t) => {
  const first = await startDaemon(t)
  chmodSync(first.dir, 0o755)
  const image = await first.addImage(4, { ops: ['write'] })
  const digest = `sha-256=:${Buffer.alloc(32).toString('base64')}:`
  const refused = { body: 'abcd', headers: { 'content-digest': digest } }
  t.equal((await request(first.remote, 'PUT', image.url, refused)).status, 400)
  await first.stop()
  // As systemd gives the directory to who starts the daemon.
  const user = { drop_privileges: true, user_name: 'nobody', group_name: 'nogroup' }
  const second = await startDaemon(t, { from: first, config: { daemon: user } })
  chmodSync(image.file, 0o666)
  await second.addTicketFor(image.file, { uuid: image.id, size: 4, ops: ['write'] })
  t.match(await second.ticket(image.id), { recalled: true, unfinished: 4 })
  t.equal((await request(second.remote, 'PUT', image.url, { body: 'abcd' })).status, 200)
  t.equal((await second.ticket(image.id)).unfinished, undefined)
  t.notMatch(second.logText(), /cannot be recorded/)
})

t.test(
  '179: the control service answers its own user, root and its group only',
  { skip },
  async (t) => {
    const daemon = await startDaemon(t)
    const id = await daemon.addTicket({})
    // The mode of the file is one fence, the credentials of the peer are another.
    for (const path of [daemon.dir, join(daemon.dir, 'run')]) chmodSync(path, 0o755)
    chmodSync(daemon.controlSocket, 0o666)
    const curl = ['curl', '-s', '--max-time', '5', '--unix-socket', daemon.controlSocket]
    const ask = (user: string[]): string => {
      const args = [...user, ...curl, '-w', '%{http_code}', `http://localhost/tickets/${id}`]
      const [program = '', ...rest] = args
      const { stdout } = spawnSync(program, rest, { encoding: 'utf8' })
      return stdout
    }
    t.match(ask([]), /200$/, 'root')
    const nobody = ['setpriv', '--reuid=nobody', '--regid=nogroup', '--clear-groups']
    t.match(ask(nobody), /^(403|000|.*403)$/s, 'another user')
    t.notMatch(ask(nobody), 'uuid')
  },
)

t.test('179: ids of tickets do not appear in what the system tells of processes', async (t) => {
  const daemon = await startDaemon(t)
  const image = await daemon.addImage()
  t.equal((await request(daemon.remote, 'GET', image.url)).status, 200)
  for (const name of ['cmdline', 'comm', 'environ']) {
    t.notOk(readFileSync(`/proc/${daemon.pid}/${name}`, 'utf8').includes(image.id), name)
  }
})

/** Serial number of the certificate a new connection sees. */
async function serial(daemon: Daemon): Promise<string> {
  const socket = tls.connect({ host: '127.0.0.1', port: daemon.port, rejectUnauthorized: false })
  await new Promise<void>((resolve, reject) => {
    socket.once('secureConnect', () => resolve())
    socket.once('error', reject)
  })
  const { serialNumber } = socket.getPeerCertificate()
  socket.destroy()
  return serialNumber
}

/** Another certificate in place of the first. */
function renew(dir: string): void {
  const key = join(dir, 'server.key')
  const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  const rest = [
    '-days',
    '2',
    '-subj',
    '/CN=renewed',
    '-keyout',
    key,
    '-out',
    join(dir, 'server.pem'),
  ]
  execFileSync('openssl', [...args, ...rest], { stdio: 'pipe' })
}

t.test('W60: SIGHUP takes a new certificate, and keeps the old one when it is bad', async (t) => {
  const pki = testPki()
  const dir = t.testdir({})
  mkdirSync(dir, { recursive: true })
  const certificate = { key_file: join(dir, 'server.key'), cert_file: join(dir, 'server.pem') }
  copyFileSync(pki.keyFile, certificate.key_file)
  copyFileSync(pki.certFile, certificate.cert_file)
  const daemon = await startDaemon(t, { config: { tls: certificate } })
  const wire = await Wire.open(daemon.remote)
  const info = 'GET /info/ HTTP/1.1\r\nHost: localhost\r\n\r\n'
  const before = await serial(daemon)
  renew(dir)
  t.equal(await serial(daemon), before, 'not before it is told')
  daemon.process.kill('SIGHUP')
  await until('the new certificate is served', async () => (await serial(daemon)) !== before)
  t.equal((await wire.ask(info)).status, 200, 'connections stay')
  const renewed = await serial(daemon)
  writeFileSync(certificate.cert_file, 'junk')
  const told = daemon.logText().length
  daemon.process.kill('SIGHUP')
  await until('the failure is logged', () =>
    /"level":"(error|warn)"/.test(daemon.logText().slice(told)),
  )
  t.equal(await serial(daemon), renewed)
  t.equal((await wire.ask(info)).status, 200)
  wire.destroy()
})

t.test('W60: SIGHUP takes a new log level', async (t) => {
  const daemon = await startDaemon(t, { config: { logger_root: { level: 'WARNING' } } })
  await request(daemon.remote, 'GET', '/info/')
  t.notMatch(daemon.logText(), /"level":"(debug|info)"/)
  daemon.configure({ logger_root: { level: 'DEBUG' } })
  daemon.process.kill('SIGHUP')
  await until('debug lines come', async () => {
    await request(daemon.remote, 'GET', '/info/')
    return daemon.logText().includes('"level":"debug"')
  })
  t.pass('they come')
})

t.test('32: HTTP/2 clients that misbehave do not end the daemon', async (t) => {
  const daemon = await startDaemon(t)
  const image = await daemon.addImage(Buffer.alloc(4 * 1024 * 1024))
  for (let round = 0; round < 10; round++) {
    const session = await openH2(daemon.remote)
    for (const method of ['GET', 'PUT', 'OPTIONS']) {
      const stream = session.request({ ':method': method, ':path': image.url })
      stream.on('error', () => undefined)
      if (method === 'PUT') stream.write('some data')
      if (round % 3 === 1) stream.close()
    }
    if (round % 2 === 0)
      await daemon.ticketWhen(image.id, 'opened', ({ connections }) => connections > 0)
    session.destroy()
  }
  const isGone = (info: { active: boolean; connections: number }): boolean =>
    !info.active && info.connections === 0
  await daemon.ticketWhen(image.id, 'all gone', isGone)
  t.equal((await request(daemon.remote, 'GET', '/info/')).status, 200)
})

t.test('17: a request line that claims HTTP/2.0 does no harm, with a body either', async (t) => {
  const daemon = await startDaemon(t)
  const image = await daemon.addImage()
  for (const target of [daemon.remote, daemon.local]) {
    const wire = await Wire.open(target)
    const fields = 'Host: localhost\r\nContent-Length: 5\r\n\r\nHELLO'
    const before = image.bytes()
    t.equal((await wire.ask(`PUT ${image.url} HTTP/2.0\r\n${fields}`)).status, 505)
    t.same(image.bytes(), before)
    await wire.rest()
  }
  t.equal((await request(daemon.remote, 'GET', '/info/')).status, 200)
})

t.test('looks at the control service leave nothing in the log at INFO, changes do', async (t) => {
  const daemon = await startDaemon(t, { config: { logger_root: { level: 'INFO' } } })
  for (let looks = 0; looks < 3; looks++) await request(daemon.control, 'GET', '/tickets')
  await request(daemon.control, 'DELETE', '/tickets/none')
  const asked = (): string[] =>
    daemon
      .logText()
      .split('\n')
      .filter((line) => /"service":"control".*"requests":[1-9]/.test(line))
  await until('the line of the change', () => asked().length > 0)
  t.equal(asked().length, 1)
  t.notMatch(daemon.logText(), /"service":"control"[^\n]*connection opened/)
})
