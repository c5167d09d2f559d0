/** What --check-config finds, and what is told at the start: all of it, each with what to do. */
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import t, { type Test } from 'tap'
import { loadTransfersConfig } from '../../transfers/config.js'
import { setPassword } from '../../transfers/password-file.js'
import { preflight } from '../../transfers/preflight.js'
import { PostgresStore } from '../../transfers/store/postgres-store.js'
import { SqliteStore } from '../../transfers/store/sqlite-store.js'
import { startDaemon, writeConfig, type Sections } from '../support/daemon.js'
import { testPki } from '../support/pki.js'
import { startPostgres, withoutPostgres } from '../support/postgres.js'
import { startSystem } from '../support/transfers.js'

const STDERR = { handlers: { keys: 'stderr' }, logger_root: { handlers: 'stderr' } }

/** A directory with all that is needed; what is given is over it. */
async function prepare(t: Test) {
  const dir = mkdtempSync(join(tmpdir(), 'imageio-preflight-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  const { controlSocket, url } = await startDaemon(t)
  for (const name of ['images', 'db']) mkdirSync(join(dir, name))
  const passwords = join(dir, 'passwords')
  await setPassword(passwords, 'admin@internal', 'secret')
  const good: Sections[string] = {
    host: '127.0.0.1',
    database: join(dir, 'db', 'transfers.sqlite'),
    run_dir: join(dir, 'run'),
    storage_dir: join(dir, 'images'),
    password_file: passwords,
    control_socket: controlSocket,
    transfer_url: url,
  }
  const configure = (transfers: Sections[string], more: Sections = {}): void => {
    const tls = { enable: false }
    writeConfig(dir, { tls, ...STDERR, transfers: { ...good, ...transfers }, ...more })
  }
  const check = async (transfers: Sections[string], more: Sections = {}) => {
    configure(transfers, more)
    return preflight(loadTransfersConfig(dir, '/nonexistent').config)
  }
  const launch = (...args: string[]) =>
    spawnSync('env', ['-u', 'NODE_OPTIONS', 'bin/imageio-transfers', '-c', dir, ...args], {
      encoding: 'utf8',
    })
  return { dir, passwords, configure, check, launch }
}

t.test('a good configuration has neither problems nor warnings', async (t) => {
  const { check, configure, launch } = await prepare(t)
  t.strictSame(await check({}), { problems: [], warnings: [] })
  configure({})
  t.match(launch('--check-config'), { status: 0, stdout: 'configuration is good\n', stderr: '' })
})

t.test('everything that is wrong is found at once', async (t) => {
  const { dir, configure, launch } = await prepare(t)
  const file = join(dir, 'file')
  writeFileSync(file, 'text')
  configure(
    {
      host: '192.0.2.1',
      database: join(dir, 'none', 'deep', 'db'),
      run_dir: join(file, 'run'),
      storage_dir: join(dir, 'none'),
      password_file: file,
      control_socket: file,
      group: 'no such group',
      username: 'a:b',
      ticket_renewal: 300,
    },
    {
      tls: { key_file: file, cert_file: testPki().certFile, ca_file: file },
      host_a: { control_socket: '/a', transfer_url: 'https://a/path' },
      storage_domain_b: { path: dir },
      storage_domain_c: { path: `${dir}/.` },
      storage_domain_d: { path: file },
    },
  )
  const { status, stdout, stderr } = launch('--check-config')
  t.equal(status, 1)
  t.equal(stdout, '')
  const lines = stderr.split('\n').filter((line) => line.startsWith('imageio-transfers: '))
  t.match(lines.sort(), [
    /: .*conf:[0-9]+: \[transfers\] username: must be a name/,
    /: .*conf:[0-9]+: \[transfers\] ticket_renewal: must be less than ticket_timeout/,
    /: .*conf:[0-9]+: \[host_a\] transfer_url: must be a URL like/,
    /: \[storage_domain_c\] path: .* is the directory of \[storage_domain_b\] path as well/,
    /: \[storage_domain_d\] path: .*file is not a directory/,
    /: \[tls\] ca_file: .*file holds no certificate/,
    /: \[tls\]: cannot use key .*file/,
    /: \[transfers\] control_socket: .*file exists and is no socket/,
    /: \[transfers\] database: .*deep cannot be made: .*none does not exist; mount or make it/,
    /: \[transfers\] group: there is no group/,
    /: \[transfers\] host: 192\.0\.2\.1 is not an address of this machine/,
    /: \[transfers\] password_file: .*line 1 is not USER:HASH/,
    /: \[transfers\] run_dir: .*run cannot be made|: \[transfers\] run_dir: .* lies below/,
    /: \[transfers\] storage_dir: .*none does not exist; mount or make it/,
  ])
  t.equal(lines.length, 14)
})

t.test('a control service that is none is told, one that does not answer warned of', async (t) => {
  const { dir, check } = await prepare(t)
  const file = join(dir, 'file')
  writeFileSync(file, '')
  t.match(await check({ control_socket: file }), {
    problems: [/^\[transfers\] control_socket: .*file exists and is no socket$/],
  })
  const server = createServer((socket) => socket.destroy()).listen(join(dir, 'mute'))
  t.teardown(() => server.close())
  const { problems, warnings } = await check(
    { control_socket: join(dir, 'none'), proxy_control_socket: '/p', proxy_url: 'https://p' },
    { host_a: { control_socket: join(dir, 'mute'), transfer_url: 'https://a' } },
  )
  t.same(problems, [])
  t.match([...warnings].sort(), [
    /^\[host_a\] control_socket: does not answer, the host is down until it does: /,
    /^\[transfers\] control_socket: does not answer, the host is down .* is it running\?$/,
    /^\[transfers\] proxy_control_socket: does not answer, proxy_url does not .*talk to the proxy at/,
  ])
  const { caFile, certFile, keyFile } = testPki()
  const control = {
    control_ca_file: caFile,
    control_cert_file: certFile,
    control_key_file: keyFile,
  }
  const far = { control_url: 'https://127.0.0.1:1', transfer_url: 'https://a' }
  t.match(await check(control, { host_a: far }), {
    problems: [],
    warnings: [
      /^\[host_a\] control_url: does not answer, .* 127\.0\.0\.1:1: nothing listens there/,
    ],
  })
  t.match(await check({ ...control, control_ca_file: '/none' }, { host_a: far }), {
    problems: [/^\[host_a\] control_url: cannot use the authorities in \/none/],
  })
})

t.test('a file that cannot be the database is told', async (t) => {
  const { dir, check } = await prepare(t)
  const path = join(dir, 'db', 'file')
  const database = async (name: string) => (await check({ database: name })).problems
  writeFileSync(path, '')
  t.same(await database(path), [], 'empty, as SQLite makes it')
  writeFileSync(path, 'something else')
  t.match(await database(path), [/^\[transfers\] database: .*file is no SQLite database$/])
  t.match(await database(join(dir, 'db')), [/db is not a regular file$/])
  t.match(await database(join(path, 'db')), [/file is not a directory$/])
  t.same(await database(join(dir, 'new', 'db')), [], 'the service makes one directory')
  t.match(await database(join(dir, 'new', 'too', 'db')), [
    /too cannot be made: .*new does not exist/,
  ])
  rmSync(path)
  const store = await SqliteStore.open(path)
  t.same(await database(path), [], 'in use')
  await store.close()
  t.same(await database(path), [])
  const newer = new DatabaseSync(path)
  newer.exec('INSERT INTO migrations (step) VALUES (99)')
  newer.close()
  t.match(await database(path), [
    /newer version of this service: start that one, or restore a copy/,
  ])
  t.same(readdirSync(dirname(path)), ['file'], 'nothing is made')
  truncateSync(path, 4097)
  t.same(await database(path), [], 'as a process that was killed may leave it: its log mends it')
})

t.test('a PostgreSQL that cannot be reached is told, without its password', async (t) => {
  const { check } = await prepare(t)
  const { problems } = await check({ database: 'postgresql://user:secret@127.0.0.1:1/db' })
  t.match(problems, [/^\[transfers\] database: PostgreSQL cannot be used: .*ECONNREFUSED/])
  t.notMatch(problems.join(), 'secret')
  t.match((await check({ database: 'postgresql://localhost:1/db' })).problems, [/ECONNREFUSED/])
})

t.test('a PostgreSQL that has everything is good', { skip: withoutPostgres() }, async (t) => {
  const { check } = await prepare(t)
  const { url } = startPostgres(t)
  t.same((await check({ database: url })).problems, [], 'before its first use')
  const store = await PostgresStore.open(url)
  await store.close()
  t.same((await check({ database: url })).problems, [])
  const none = url.replace('/postgres?', '/none?')
  t.match((await check({ database: none })).problems, [/database "none" does not exist/])
})

t.test('a directory of another storage domain is told', async (t) => {
  const { dir, check } = await prepare(t)
  writeFileSync(join(dir, 'images', '.imageio-domain'), 'other\n')
  t.match((await check({})).problems, [
    /^\[transfers\] storage_dir: .*images is that of another storage domain: its id is 36ab2264-.* has "other"$/,
  ])
  symlinkSync(join(dir, 'images'), join(dir, 'link'))
  const linked = { storage_domain_a: { id: 'other', path: join(dir, 'link') } }
  const { problems } = await check({ storage_dir: '' }, linked)
  t.same(problems, [])
})

t.test(
  'passwords that let nobody in, or others read them, are told at the start too',
  async (t) => {
    const { passwords, check, configure, launch } = await prepare(t)
    const warnings = async () => (await check({})).warnings
    chmodSync(passwords, 0o644)
    t.match(await warnings(), [
      /^\[transfers\] password_file: .* can be read by every user .*: chmod 600/,
    ])
    chmodSync(passwords, 0o660)
    t.match(await warnings(), [/ can be changed by others than its owner: chmod 600 /])
    chmodSync(passwords, 0o640)
    t.same(await warnings(), [], 'to its group it may be readable on purpose')
    writeFileSync(passwords, '# nobody\n')
    t.match(await warnings(), [/ has no users: nobody can log in; imageio-transfers passwd sets/])
    rmSync(passwords)
    t.match(await warnings(), [/ does not exist: nobody can log in; imageio-transfers passwd sets/])
    mkdirSync(passwords)
    configure({})
    t.match(launch(), {
      status: 1,
      stderr: /imageio-transfers: \[transfers\] password_file: .*passwords: is a directory\n$/,
    })
  },
)

t.test('a run_dir that cannot be is told', async (t) => {
  const { dir, check } = await prepare(t)
  const long = join(dir, 'a'.repeat(60))
  t.match((await check({ run_dir: long })).problems, [
    /run_dir: no socket can have the name .*; set/,
  ])
  t.same((await check({ run_dir: join(dir, 'new', 'too') })).problems, [], 'it is made')
  t.match((await check({ run_dir: '/proc/x/y' })).problems, [
    /run_dir: \/proc\/x\/y cannot be made: \/proc /,
  ])
})

t.test('without an environment it starts as with one, and a port in use is told', async (t) => {
  const { dir, configure } = await prepare(t)
  const taken = createServer().listen(0, '127.0.0.1')
  t.teardown(() => taken.close())
  await once(taken, 'listening')
  const { port } = taken.address() as AddressInfo
  const file = join(dir, 'file')
  writeFileSync(file, '')
  configure({ port, run_dir: join(file, 'run') })
  const bare = (...args: string[]) =>
    spawnSync('env', ['-i', 'bin/imageio-transfers', '-c', dir, ...args], { encoding: 'utf8' })
  const { status, stderr } = bare()
  t.equal(status, 1)
  const told = `cannot listen on 127.0.0.1 port ${port}: it is in use; choose another with [transfers] port`
  t.ok(stderr.endsWith(`imageio-transfers: ${told}\n`), stderr)
  t.match(
    stderr,
    /"level":"warn".*run_dir: .*: no transfer with format raw of a qcow2 disk can begin; make it, or/,
  )
  t.match(bare('--check-config'), {
    status: 1,
    stderr: /^imageio-transfers: \[transfers\] run_dir: /,
  })
})

t.test('what keeps clients from working is in the log of the start', async (t) => {
  const none = '/nonexistent/imageio'
  const system = await startSystem(t, {
    transfers: { password_file: none, control_socket: none, storage_dir: none },
  })
  const text = system.logText()
  t.match(text, /"level":"warn".*password_file: \/nonexistent\/imageio does not exist: nobody can/)
  t.match(text, /"level":"warn".*"msg":"no host is up, every transfer is refused: start a daemon/)
  t.match(text, /"level":"warn".*"msg":"no storage domain is active, .*: mount a directory/)
  t.match(text, /"level":"warn".*no such socket.*"msg":"host is down"/)
  t.match(text, /"level":"error".*"msg":"storage domain is not active"/)
})
