/** The same for both databases: what a transaction, a compare-and-set and a lease are. */
import { execFileSync, fork } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { PostgresStore } from '../../../transfers/store/postgres-store.js'
import { SqliteStore } from '../../../transfers/store/sqlite-store.js'
import type { Records, Store } from '../../../transfers/store/store.js'
import { startPostgres, withoutPostgres } from '../../support/postgres.js'
import { startRelay } from '../../support/postgres-relay.js'
import { until, within } from '../../support/wait.js'
import { someDisk, someTransfer } from '../records.js'

const DUPLICATE = { code: 'ERR_STORE_DUPLICATE' }
const STALE = { code: 'ERR_STORE_STALE' }
const UNREACHABLE = { code: 'ERR_STORE_UNREACHABLE', statusCode: 503 }
const LONG = 600_000
const asRoot = process.getuid?.() === 0 ? false : 'mounting needs root'

/** Opens one more connection to the same, empty database. */
type Open = () => Promise<Store>

function suite(t: Test, newDatabase: (t: Test) => Promise<string>): void {
  const begin = async (t: Test): Promise<{ store: Store; open: Open }> => {
    const address = await newDatabase(t)
    const open: Open = async () => {
      const store = await openStore(address)
      t.teardown(() => store.close())
      return store
    }
    return { store: await open(), open }
  }

  t.test('a record comes back as it was written, also for another process', async (t) => {
    const { store, open } = await begin(t)
    const disk = someDisk({ provisionedSize: 10 * 2 ** 40 + 1, name: 'Plätte "1" ✓', owner: 'me' })
    const transfer = someTransfer({ diskId: disk.id, owner: 'me', isActive: true })
    await store.transaction(async (records) => {
      await records.addDisk(disk)
      await records.addTransfer(transfer)
    })
    const other = await open()
    await other.transaction(async (records) => {
      t.match(await records.disk(disk.id), disk)
      t.match(await records.transfer(transfer.id), transfer)
      t.equal((await records.disks()).length, 1)
      t.equal((await records.transfers()).length, 1)
      t.equal(await records.disk('missing'), undefined)
      t.equal(await records.transfer('missing'), undefined)
    })
    const { id } = transfer
    t.same(await other.versions(), [{ id, version: 0, owner: 'me', isFinal: false }])
  })

  t.test('what fails in a transaction leaves nothing behind', async (t) => {
    const { store } = await begin(t)
    const disk = someDisk()
    const failing = store.transaction(async (records) => {
      await records.addDisk(disk)
      throw new Error('in the middle')
    })
    await t.rejects(failing, /in the middle/)
    t.same(await store.transaction((records) => records.disks()), [])
  })

  t.test('ids and image ids of disks are unique', async (t) => {
    const { store } = await begin(t)
    const disk = someDisk()
    const add = (fields: object): Promise<void> =>
      store.transaction((records) => records.addDisk(someDisk(fields)))
    await add(disk)
    await t.rejects(add({ id: disk.id }), DUPLICATE)
    await t.rejects(add({ imageId: disk.imageId }), DUPLICATE)
    await store.transaction((records) => records.removeDisk(disk.id))
    await t.resolves(add(disk))
  })

  t.test('a disk has one unfinished transfer, and any number of finished ones', async (t) => {
    const { store } = await begin(t)
    const first = someTransfer()
    const { diskId } = first
    const add = (fields: object): Promise<void> =>
      store.transaction((records) => records.addTransfer(someTransfer({ diskId, ...fields })))
    await add(first)
    await t.rejects(add({}), DUPLICATE)
    await store.transaction((records) =>
      records.putTransfer({ ...first, phase: 'finished_failure' }),
    )
    await add({ phase: 'finished_success' })
    await add({})
    await t.rejects(add({}), DUPLICATE)
  })

  t.test('a change is based on the last version, or refused', async (t) => {
    const { store, open } = await begin(t)
    const transfer = someTransfer()
    await store.transaction((records) => records.addTransfer(transfer))
    const put = (from: Store, version: number): Promise<unknown> =>
      from.transaction((records) =>
        records.putTransfer({ ...transfer, version, phase: 'transferring' }),
      )
    t.match(await put(store, 0), { version: 1, phase: 'transferring' })
    await t.rejects(put(await open(), 0), STALE)
    await t.rejects(put(store, 2), STALE)
    t.match(await put(store, 1), { version: 2 })
    t.match(await store.versions(), [{ version: 2 }])
    await store.transaction((records) => records.removeTransfer(transfer.id))
    await t.rejects(put(store, 2), STALE)
  })

  t.test('changes from many sides at once are all made', async (t) => {
    const { store, open } = await begin(t)
    const transfer = someTransfer()
    await store.transaction((records) => records.addTransfer(transfer))
    const stores = [store, await open(), await open()]
    const increment = async (records: Records): Promise<void> => {
      const read = await records.transfer(transfer.id)
      await records.putTransfer({ ...read!, transferred: read!.transferred + 1 })
    }
    const all = Array.from({ length: 30 }, (_, n) => stores[n % 3]!.transaction(increment))
    await within('all changes', 60_000, Promise.all(all))
    const last = await store.transaction((records) => records.transfer(transfer.id))
    t.match(last, { transferred: 30, version: 30 })
  })

  t.test('an instance without a lease owns nothing for long', async (t) => {
    const { store, open } = await begin(t)
    const other = await open()
    const [mine, finished] = [someTransfer(), someTransfer({ phase: 'finished_success' })]
    const work = someDisk({ lockedBy: 'creation' })
    await store.transaction(async (records) => {
      await records.addTransfer(mine)
      await records.addTransfer(finished)
      await records.addDisk(work)
      await records.addDisk(someDisk())
    })
    t.same(await store.leases.claim('a'), { transfers: [], disks: [] }, 'no lease, no claim')
    await store.leases.begin('A', 'a', LONG)
    t.same(await store.leases.claim('a'), { transfers: [mine.id], disks: [work.id] })
    t.same(await store.leases.claim('a'), { transfers: [], disks: [] }, 'they are claimed once')
    await other.leases.begin('B', 'b', LONG)
    t.same(await other.leases.claim('b'), { transfers: [], disks: [] }, 'nothing is taken away')
    await store.leases.end('A', 'a')
    t.match(await other.leases.claim('b'), { transfers: [mine.id], disks: [work.id] })
    const read = await store.transaction((records) => records.transfer(mine.id))
    t.match(read, { owner: 'b' })
  })

  t.test('a lease that is not renewed expires by the clock of the database', async (t) => {
    const { store } = await begin(t)
    const transfer = someTransfer()
    await store.transaction((records) => records.addTransfer(transfer))
    await store.leases.begin('A', 'a', 1)
    await store.leases.begin('B', 'b', LONG)
    const claimed = await until('the lease is over', async () => {
      const { transfers } = await store.leases.claim('b')
      return transfers.length > 0 && transfers
    })
    t.same(claimed, [transfer.id])
    t.notOk(await store.leases.renew('A', 'a', LONG), 'over is over, though nobody has the name')
    t.same(await store.leases.claim('a'), { transfers: [], disks: [] })
  })

  t.test('a new process of the same name takes over at once', async (t) => {
    const { store, open } = await begin(t)
    const transfer = someTransfer()
    await store.transaction((records) => records.addTransfer(transfer))
    await store.leases.begin('A', 'first', LONG)
    await store.leases.claim('first')
    const again = await open()
    await again.leases.begin('A', 'second', LONG)
    t.same(await again.leases.claim('second'), { transfers: [transfer.id], disks: [] })
    t.notOk(await store.leases.renew('A', 'first', LONG), 'the old one learns that it is over')
    t.ok(await again.leases.renew('A', 'second', LONG))
  })
}

/** As the configuration names it: a path, or a URL. */
function openStore(address: string): Promise<Store> {
  return address.startsWith('postgresql:') ? PostgresStore.open(address) : SqliteStore.open(address)
}

t.test('SQLite', async (t) => {
  suite(t, async (t) => join(t.testdir(), 'transfers.sqlite'))

  t.test('nobody else may read the file, which has secrets', async (t) => {
    const file = join(t.testdir(), 'transfers.sqlite')
    const store = await SqliteStore.open(file)
    t.equal(statSync(file).mode & 0o777, 0o600)
    t.equal(statSync(`${file}-wal`).mode & 0o777, 0o600)
    await store.close()
  })

  t.test('a database of a newer version is left alone', async (t) => {
    const file = join(t.testdir(), 'transfers.sqlite')
    await (await SqliteStore.open(file)).close()
    const { DatabaseSync } = await import('node:sqlite')
    const database = new DatabaseSync(file)
    database.exec('INSERT INTO migrations (step) VALUES (99)')
    database.close()
    await t.rejects(SqliteStore.open(file), /newer version/)
  })

  t.test(
    'storage that is full refuses a change, and takes it later',
    { skip: asRoot },
    async (t) => {
      const dir = t.testdir()
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', dir])
      const store = await SqliteStore.open(join(dir, 'transfers.sqlite'))
      try {
        const filler = join(dir, 'filler')
        const disk = someDisk({ name: 'd'.repeat(20_000) })
        const adding = (): Promise<void> => store.transaction((records) => records.addDisk(disk))
        t.throws(() => writeFileSync(filler, Buffer.alloc(2 * 2 ** 20)), { code: 'ENOSPC' })
        await t.rejects(adding(), { ...UNREACHABLE, message: /full/ })
        rmSync(filler)
        await adding()
        t.equal((await store.transaction((records) => records.disks())).length, 1)
      } finally {
        await store.close()
        execFileSync('umount', [dir])
      }
    },
  )

  t.test('what is committed survives the process', async (t) => {
    const file = join(t.testdir(), 'transfers.sqlite')
    const child = fork(fileURLToPath(import.meta.resolve('./writer.js')), [file], {
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    })
    const killed = new Promise<void>((resolve) => child.once('exit', () => resolve()))
    const seen: string[] = []
    const done = new Promise<void>((resolve) => {
      child.on('message', (id) => {
        seen.push(id as string)
        if (seen.length === 20) {
          child.kill('SIGKILL')
          resolve()
        }
      })
    })
    await within('twenty commits', 20_000, done)
    await within('its end', 20_000, killed)
    const store = await SqliteStore.open(file)
    const disks = await store.transaction((records) => records.disks())
    const ids = new Set(disks.map(({ id }) => id))
    t.same(
      seen.filter((id) => !ids.has(id)),
      [],
    )
    await store.close()
  })
})

t.test('PostgreSQL', { skip: withoutPostgres() }, async (t) => {
  const server = startPostgres(t)
  const newDatabase = async (): Promise<string> => {
    const { default: pg } = await import('pg')
    const client = new pg.Client({ connectionString: server.url })
    await client.connect()
    const name = `test_${randomUUID().replaceAll('-', '')}`
    await client.query(`CREATE DATABASE ${name}`)
    await client.end()
    return server.url.replace('/postgres?', `/${name}?`)
  }
  suite(t, newDatabase)

  t.test('instances that start together migrate once', async (t) => {
    const url = await newDatabase()
    const stores = await Promise.all(Array.from({ length: 4 }, () => PostgresStore.open(url)))
    const disk = someDisk()
    await stores[0]!.transaction((records) => records.addDisk(disk))
    for (const store of stores) {
      t.equal((await store.transaction((records) => records.disks())).length, 1)
      await store.close()
    }
  })

  t.test('a server that crashes takes no commit with it, and is used again', async (t) => {
    const store = await PostgresStore.open(await newDatabase())
    t.teardown(() => store.close())
    const disk = someDisk()
    await store.transaction((records) => records.addDisk(disk))
    server.crash()
    const found = await until('the store is connected again', () =>
      store.transaction((records) => records.disk(disk.id)).catch(() => undefined),
    )
    t.equal(found.id, disk.id)
  })

  t.test('a session that stands still with its locks stops no other instance', async (t) => {
    const url = await newDatabase()
    const before = await PostgresStore.open(url)
    const [held, free] = [someTransfer({ owner: 'gone' }), someTransfer({ owner: 'gone' })]
    const work = someDisk({ lockedBy: 'creation', owner: 'gone' })
    await before.transaction(async (records) => {
      await records.addTransfer(held)
      await records.addTransfer(free)
      await records.addDisk(work)
    })
    await before.close()
    const { default: pg } = await import('pg')
    const still = new pg.Client({ connectionString: url })
    await still.connect()
    t.teardown(() => still.end())
    await still.query('BEGIN')
    await still.query('SELECT * FROM transfers WHERE id = $1 FOR UPDATE', [held.id])
    await still.query('SELECT * FROM disks FOR UPDATE')
    const store = await PostgresStore.open(url)
    t.teardown(() => store.close())
    await store.leases.begin('B', 'b', LONG)
    t.same(await store.leases.claim('b'), { transfers: [free.id], disks: [] })
    const waiting = Array.from({ length: 20 }, () =>
      store.transaction((records) => records.transfer(held.id)),
    )
    t.ok(await store.leases.renew('B', 'b', LONG), 'with every other connection in use')
    await still.query('ROLLBACK')
    t.equal((await Promise.all(waiting)).length, 20)
    t.same(await store.leases.claim('b'), { transfers: [held.id], disks: [work.id] })
  })

  t.test('the server takes its locks from an instance that stands still', async (t) => {
    const url = await newDatabase()
    const [store, other] = [await PostgresStore.open(url), await PostgresStore.open(url)]
    t.teardown(() => Promise.all([store.close(), other.close()]))
    const transfer = someTransfer()
    await store.transaction((records) => records.addTransfer(transfer))
    const locked = Promise.withResolvers<undefined>()
    const goesOn = Promise.withResolvers<undefined>()
    const still = store.transaction(async (records) => {
      const read = await records.transfer(transfer.id)
      await records.putTransfer({ ...read!, phase: 'finished_failure' })
      locked.resolve(undefined)
      await goesOn.promise
    })
    await locked.promise
    const change = other.transaction(async (records) => {
      const read = await records.transfer(transfer.id)
      await records.putTransfer({ ...read!, phase: 'transferring' })
    })
    await within('the lock', 60_000, change)
    goesOn.resolve(undefined)
    await t.rejects(still, UNREACHABLE, 'it learns that it has done nothing')
    const read = await store.transaction((records) => records.transfer(transfer.id))
    t.match(read, { phase: 'transferring', version: 1 })
  })

  t.test('a commit that was cut off is what the server has made of it', async (t) => {
    const relay = await startRelay(t, await newDatabase())
    const store = await PostgresStore.open(relay.url)
    t.teardown(() => store.close())
    const [made, lost] = [someDisk(), someDisk()]
    relay.cutAtCommit('after')
    await store.transaction((records) => records.addDisk(made))
    relay.cutAtCommit('before')
    const losing = store.transaction((records) => records.addDisk(lost))
    await t.rejects(losing, UNREACHABLE)
    t.match(await store.transaction((records) => records.disks()), [{ id: made.id }])
    t.equal(relay.cuts, 2)
  })

  t.test('a server that is not there yet is waited for, as long as is wished', async (t) => {
    const relay = await startRelay(t, await newDatabase())
    await relay.close()
    await t.rejects(PostgresStore.open(relay.url), { code: 'ENOENT' })
    const reasons: Error[] = []
    const store = await PostgresStore.open(relay.url, {
      patienceMs: LONG,
      onWait: (reason) => {
        reasons.push(reason)
        void relay.listen()
      },
    })
    t.match(reasons, [{ ...UNREACHABLE, cause: { code: 'ENOENT' } }])
    await store.close()
  })
})
