/** Storage domains that come and go, in real directories. */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { DomainWatch } from '../../transfers/domain-watch.js'
import { Domains } from '../../transfers/domains.js'
import type { StoredDisk } from '../../transfers/store/records.js'
import { SqliteStore } from '../../transfers/store/sqlite-store.js'
import { until } from '../support/wait.js'
import { ManualClock } from './manual-clock.js'
import { someDisk } from './records.js'

const ID = 'domain'

async function setUp(t: Test) {
  const dir = t.testdir({ images: {} })
  const path = join(dir, 'images')
  const store = await SqliteStore.open(join(dir, 'db'))
  t.teardown(() => store.close())
  const clock = new ManualClock()
  const domains = new Domains([{ id: ID, name: 'default', path }])
  let log = ''
  const write = (chunk: Buffer, _: unknown, done: () => void): void => {
    log += chunk.toString()
    done()
  }
  const logger = pino({ level: 'info' }, new Writable({ write }))
  const start = async (): Promise<void> => {
    const watch = new DomainWatch({ store, volumes: domains, clock, logger, checkMs: 10_000 })
    t.teardown(() => watch.stop())
    await watch.start()
  }
  /** A look later; resolves when the log has said so. */
  const told = (text: string): Promise<true> => {
    const begin = log.length
    clock.advance(10_000)
    return until(text, () => log.slice(begin).includes(text))
  }
  const addDisk = (disk: Partial<StoredDisk>): Promise<void> =>
    store.transaction((records) =>
      records.addDisk(someDisk({ storageDomainId: ID, lockedBy: undefined, ...disk })),
    )
  const status = async () => (await domains.domains())[0]?.status
  const marker = join(path, '.imageio-domain')
  return { dir, path, marker, store, domains, start, told, addDisk, status, logText: () => log }
}

t.test('a new domain is marked, and remembered', async (t) => {
  const { marker, store, start, status, logText } = await setUp(t)
  t.equal(await status(), 'inactive')
  await start()
  t.equal(await status(), 'active')
  t.equal(readFileSync(marker, 'utf8'), `${ID}\n`)
  t.same(await store.transaction((records) => records.domains()), [ID])
  t.match(logText(), 'storage domain is active')
})

t.test('one that is not mounted is refused until it is back, also when it is empty', async (t) => {
  const { path, marker, domains, start, told, status, logText } = await setUp(t)
  await start()
  renameSync(path, `${path}.away`)
  mkdirSync(path)
  await told('storage domain is not active')
  t.match(logText(), /as if it was not mounted/)
  t.equal(await status(), 'inactive')
  t.match(await domains.domains(), [{ problem: /not mounted/, available: 0 }])
  await t.rejects(domains.create(someDisk({ storageDomainId: ID })), {
    message: /not active/,
  })
  t.notOk(existsSync(marker), 'it is not taken for a new one')
  rmSync(path, { recursive: true })
  await told('ENOENT')
  renameSync(`${path}.away`, path)
  await told('storage domain is active')
  t.equal(await status(), 'active')
})

t.test('after a restart as well', async (t) => {
  const { path, start, status } = await setUp(t)
  await start()
  rmSync(path, { recursive: true })
  mkdirSync(path)
  await start()
  t.equal(await status(), 'inactive')
})

t.test('a directory of before there were markers is known by its volumes', async (t) => {
  const { path, marker, addDisk, start, told, status } = await setUp(t)
  await addDisk({ id: 'd', imageId: 'image' })
  await start()
  t.equal(await status(), 'inactive', 'its volume is not there')
  writeFileSync(join(path, 'image'), 'data')
  await told('storage domain is active')
  t.ok(existsSync(marker))
})

t.test('a domain of another database, or that was moved here, has its marker', async (t) => {
  const { marker, store, start, status } = await setUp(t)
  writeFileSync(marker, `${ID}\n`)
  await start()
  t.equal(await status(), 'active')
  t.same(await store.transaction((records) => records.domains()), [ID])
})

t.test('the directory of another domain is refused', async (t) => {
  const { marker, start, status, logText } = await setUp(t)
  writeFileSync(marker, 'other\n')
  await start()
  t.equal(await status(), 'inactive')
  t.match(logText(), /"reason":"its directory is that of another one, other"/)
})

t.test('files that belong to no disk are told, and left alone', async (t) => {
  const { path, addDisk, start, logText } = await setUp(t)
  await addDisk({ id: 'd', imageId: 'known' })
  await addDisk({ id: 'e', imageId: 'busy', lockedBy: 'creation', status: 'locked' })
  const unfinished = (id: string): string => `.${id}.0123456789abcdef.new`
  const orphans = ['lost', unfinished('half'), unfinished('known')]
  for (const name of ['known', unfinished('busy'), ...orphans])
    writeFileSync(join(path, name), name)
  await start()
  const line = logText()
    .split('\n')
    .find((text) => text.includes('files belong to no disk'))
  const { names, count, level } = JSON.parse(line ?? '{}') as Record<string, unknown>
  t.same([...(names as string[])].sort(), orphans.sort())
  t.match({ count, level }, { count: 3, level: 40 })
  t.ok(orphans.every((name) => existsSync(join(path, name))))
})
