import {
  appendFileSync,
  chmodSync,
  existsSync,
  linkSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createLog } from '../../core/log.js'
import { loadTransfersConfig } from '../../transfers/config.js'
import { withoutPassword } from '../../transfers/database.js'
import type { TransferService } from '../../transfers/model.js'
import { preflight } from '../../transfers/preflight.js'
import { startTransfers } from '../../transfers/transfers.js'
import { startDaemon, writeConfig, type Daemon } from '../support/daemon.js'
import { run } from '../support/tools.js'
import { until } from '../support/wait.js'
import { FileVolumes, NamedServers, Verdicts } from './storage.js'

const STDERR = { handlers: { keys: 'stderr' }, logger_root: { handlers: 'stderr', level: 'ERROR' } }

function configure(t: Test, { controlSocket, url }: Daemon, more: object = {}): string {
  const dir = t.testdir()
  writeConfig(dir, {
    tls: { enable: false },
    ...STDERR,
    transfers: {
      database: join(dir, 'db', 'transfers.sqlite'),
      port: 0,
      storage_dir: dir,
      control_socket: controlSocket,
      transfer_url: url,
      poll_interval: 0.02,
      database_wait: 0,
      ...more,
    },
  })
  return dir
}

async function start(dir: string) {
  const { config } = loadTransfersConfig(dir, '/nonexistent')
  const log = createLog({ level: 'fatal', format: 'json', destination: { kind: 'stderr' } })
  let service: TransferService | undefined
  const server = await startTransfers(
    { config, logger: log.logger, logFiles: [] },
    {
      volumes: new FileVolumes(dir),
      verifier: new Verdicts(),
      nbd: new NamedServers(),
      serve: async (given) => {
        service = given
        return { reload: () => undefined, stop: async () => undefined }
      },
    },
  )
  return { service: service!, server }
}

t.test('one that is started by mistake ends, and not the one that runs', async (t) => {
  const daemon = await startDaemon(t)
  const dir = configure(t, daemon)
  const { server } = await start(dir)
  const ended: unknown[] = []
  server.failed?.catch((error: unknown) => ended.push(error))
  const database = join(dir, 'link')
  symlinkSync(join(dir, 'db', 'transfers.sqlite'), database)
  await t.test('by whatever path', async (t) => {
    const linked = configure(t, daemon, { database })
    await t.rejects(start(linked), { message: /another imageio-transfers uses it/ })
  })
  await t.rejects(start(dir), {
    message: /another imageio-transfers uses it: end that one, or name/,
  })
  await t.test('nor one that finds it by another name', async (t) => {
    const hard = join(dir, 'hard')
    linkSync(join(dir, 'db', 'transfers.sqlite'), hard)
    const other = configure(t, daemon, { database: hard })
    await t.rejects(start(other), { message: /it has another name, a hard link/ })
    rmSync(hard)
  })
  await t.test('nor one that makes what a link leads to', async (t) => {
    const [one, two] = [join(dir, 'one'), join(dir, 'two')] as const
    for (const link of [one, two]) symlinkSync(join(dir, 'db', 'new.sqlite'), link)
    const first = await start(configure(t, daemon, { database: one }))
    await t.test('by another link', async (t) => {
      const other = configure(t, daemon, { database: two })
      await t.rejects(start(other), { message: /another imageio-transfers uses it/ })
    })
    await first.server.stop()
  })
  await t.test('and a lock that leads somewhere else is not followed', async (t) => {
    const target = join(dir, 'target')
    writeFileSync(target, '', { mode: 0o644 })
    const linked = join(dir, 'locked')
    symlinkSync(target, `${linked}.lock`)
    const other = configure(t, daemon, { database: linked })
    await t.rejects(start(other), { message: /cannot use the database/ })
    t.equal(statSync(target).mode & 0o777, 0o644)
    rmSync(`${linked}.lock`)
    linkSync(target, `${linked}.lock`)
    await t.rejects(start(other), { message: /locked\.lock, is no file of its own; remove it/ })
    t.equal(statSync(target).mode & 0o777, 0o644)
  })
  await t.test('whose address is taken, before it touches a database', async (t) => {
    const holder = createServer()
    await new Promise<void>((resolve) => holder.listen(0, '127.0.0.1', resolve))
    const { port } = holder.address() as AddressInfo
    const other = configure(t, daemon, { host: '127.0.0.1', port })
    await t.rejects(start(other), { message: /cannot listen on 127.0.0.1 port \d+: it is in use/ })
    t.notOk(existsSync(join(other, 'db')))
    holder.close()
  })
  await server.stop()
  t.same(ended, [])
  const again = await start(dir)
  await again.server.stop()
})

t.test('the service starts by its configuration, and goes on after it was stopped', async (t) => {
  const daemon = await startDaemon(t)
  const dir = configure(t, daemon)
  const first = await start(dir)
  t.match(first.service.hosts(), [{ isUp: true }])
  t.equal(statSync(join(dir, 'db')).mode & 0o777, 0o700)
  const { disk, ready } = await first.service.addDisk({
    ...{ id: '123', imageId: undefined, name: 'd', description: '', format: 'raw' },
    ...{ provisionedSize: 4096, initialSize: 4096, sparse: true, backup: 'none' },
    ...{ contentType: 'data', shareable: false, propagateErrors: false },
    ...{ wipeAfterDelete: false, storageDomain: undefined },
  })
  await ready
  const { id } = await first.service.addTransfer({
    ...{ diskId: disk.id, imageId: undefined, direction: 'upload', hostId: undefined },
    ...{ format: undefined, shallow: false, inactivityTimeout: 60, timeoutPolicy: 'legacy' },
  })
  const phase = (service: TransferService, wanted: string) =>
    until(wanted, async () => (await service.transfer(id))?.phase === wanted)
  await phase(first.service, 'transferring')
  await first.server.stop()
  const second = await start(dir)
  await second.service.act(id, 'finalize')
  await phase(second.service, 'finished_success')
  await second.server.stop()
})

t.test('a database that cannot be used is named, without its password', async (t) => {
  const daemon = await startDaemon(t)
  await t.rejects(
    start(configure(t, daemon, { database: '/dev/null/db' })),
    /cannot use the database, \/dev\/null\/db/,
  )
  const url = 'postgresql://user:secret@127.0.0.1:1/db'
  const error = await start(configure(t, daemon, { database: url })).then(
    () => undefined,
    (reason: unknown) => reason,
  )
  t.match(error, { message: /PostgreSQL: .*ECONNREFUSED/ })
  t.notMatch(error, { message: /secret/ })
})

t.test(
  'two storage domains with one directory keep it from starting, by whatever path',
  async (t) => {
    const daemon = await startDaemon(t)
    const dir = configure(t, daemon)
    const link = join(dir, 'link')
    symlinkSync(dir, link)
    for (const path of [dir, `${dir}/./`, link]) {
      appendFileSync(join(dir, 'conf.d', 'more.conf'), `[storage_domain_b]\npath = ${path}\n`)
      const message =
        /\[storage_domain_b\] path: .* is the directory of \[transfers\] storage_dir as well/
      await t.rejects(start(dir), { message }, path)
      const { config } = loadTransfersConfig(dir, '/nonexistent')
      t.match((await preflight(config)).problems, [message])
      rmSync(join(dir, 'conf.d', 'more.conf'))
    }
  },
)

t.test('a password of the database is shown nowhere', async (t) => {
  const daemon = await startDaemon(t)
  const launch = (dir: string, ...args: string[]) =>
    run('bin/imageio-transfers', ['-c', dir, ...args])
  for (const url of [
    'postgresql://user:secret@127.0.0.1:1/db',
    'postgresql://127.0.0.1:1/db?user=u&password=secret&x=y',
    'postgresql://user:secret@[127.0.0.1:1/db',
    'postgresql://user:secret%@127.0.0.1:1/db',
    'postgresql:/user:secret@127.0.0.1:1/db',
    'user:secret@127.0.0.1:1/db',
    "host=127.0.0.1 password='a secret' dbname=db",
  ]) {
    const dir = configure(t, daemon, { database: url, password_file: '/nonexistent' })
    const fail = (error: unknown): string => {
      const { stdout, stderr } = error as { stdout: string; stderr: string }
      return stdout + stderr
    }
    const said = [
      await launch(dir, '--show-config').catch(fail),
      await launch(dir, '--check-config').catch(fail),
      await launch(dir).catch(fail),
    ]
    t.match(said[2], /cannot use the database|\[transfers\] database: must be/, url)
    t.notMatch(said.join(), 'secret', url)
  }
  const url = 'postgresql://user:p@ss:word@h/db?sslmode=require&sslpassword=secret'
  t.equal(withoutPassword(url), 'postgresql://user:***@h/db?sslmode=require&sslpassword=***')
  for (const plain of ['/srv/a:b@c', 'postgresql://user@h:5432/db', 'postgresql:///db?host=/run']) {
    t.equal(withoutPassword(plain), plain)
  }
})

t.test('the program checks its configuration, and what that needs', async (t) => {
  const daemon = await startDaemon(t)
  const dir = configure(t, daemon)
  const { config } = loadTransfersConfig(dir, '/nonexistent')
  t.match(await preflight(config), {
    problems: [],
    warnings: [/password_file/],
  })
  const impossible = configure(t, daemon, { database: '/dev/null/db' })
  t.match((await preflight(loadTransfersConfig(impossible, '/nonexistent').config)).problems, [
    /database: \/dev\/null is not a directory/,
  ])
  const missing = configure(t, daemon, { storage_dir: '/nonexistent/images' })
  const found = await preflight(loadTransfersConfig(missing, '/nonexistent').config)
  t.match(found.problems, [/\[transfers\] storage_dir: \/nonexistent\/images does not exist/])
})

t.test('a group that cannot be given files, or cannot reach them, is told', async (t) => {
  const daemon = await startDaemon(t)
  const check = async (group: string, more: object = {}) =>
    preflight(loadTransfersConfig(configure(t, daemon, { group, ...more }), '/nonexistent').config)
  t.match((await check('no such group')).problems, [/group: there is no group "no such group"/])
  const own = String(process.getegid?.())
  const dir = mkdtempSync(join(tmpdir(), 'imageio-group-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  const images = { storage_dir: dir, run_dir: join(dir, 'none') }
  chmodSync(images.storage_dir, 0o710)
  t.match(await check(own, images), { problems: [], warnings: [/password_file/] })
  chmodSync(images.storage_dir, 0o701)
  const { problems, warnings } = await check(own, images)
  t.same(problems, [])
  t.match(warnings, [/group: \d+ cannot enter .*imageio-group-/, /password_file/])
})

t.test('the launcher shows help and configuration, and refuses a ticket', async (t) => {
  const daemon = await startDaemon(t)
  const dir = configure(t, daemon)
  const launch = (...args: string[]) => run('bin/imageio-transfers', args)
  t.match(await launch('--help'), /^Usage: imageio-transfers \[options\]/)
  t.notMatch(await launch('--help'), /--ticket/)
  const shown = JSON.parse(await launch('-c', dir, '--show-config')) as object
  t.match(shown, { transfers: { port: 0, transfer_url: daemon.url } })
  // Who wants to know that may have no configuration yet.
  const options = await launch('-c', '/nonexistent', '--show-options')
  t.match(options, /^# Must be an integer, at least 1, at most 2147483\.\nlease_timeout = 60$/m)
  t.match(options, /^\[storage_domain_NAME\]$/m)
  t.match(options, /^\[handlers\]\n\n#.*\n# Must be .*\nkeys = logfile$/m)
  await t.rejects(launch('--ticket', 'x'), { code: 2, stderr: /takes no ticket/ })
})
