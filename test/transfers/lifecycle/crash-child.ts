/**
 * The engine and a client of it in one process, which kills itself at the n-th point where it has just
 * done something that lasts, or is about to. Started again on the same directory, it goes on, and says
 * what has become of disk and transfer. Arguments: directory, control socket, URL, CA file, plan, n.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '../../../transfers/clock.js'
import type { NbdServers, Verifier, Volumes } from '../../../transfers/lifecycle/ports.js'
import { SqliteStore } from '../../../transfers/store/sqlite-store.js'
import type { Records, Store } from '../../../transfers/store/store.js'
import { request } from '../../support/http.js'
import { Engine, TIMERS } from '../engine.js'
import { imageOf, type Outcome, type Plan } from './crash-plan.js'

const [dir = '', controlSocket = '', url = '', caFile = '', plan = '', n = '0'] =
  process.argv.slice(2)

/** Moments so far. */
const counter = { points: 0 }

/** One of the moments to die in. 0 is never. */
function point(): void {
  if (++counter.points === Number(n)) process.kill(process.pid, 'SIGKILL')
}

/** The same object, with a point before and after each call of these methods. */
function mortal<T extends object>(target: T, names: readonly (keyof T & string)[]): T {
  return new Proxy(target, {
    get: (object, name) => {
      const value: unknown = Reflect.get(object, name)
      if (typeof value !== 'function') return value
      const call = (...args: unknown[]): unknown => Reflect.apply(value, object, args)
      if (!names.includes(name as keyof T & string)) return call
      return async (...args: unknown[]) => {
        point()
        const result = await call(...args)
        point()
        return result
      }
    },
  })
}

const WRITES = ['addDisk', 'putDisk', 'removeDisk', 'addTransfer', 'putTransfer'] as const

/** A point after each transaction that writes. */
function mortalStore(store: Store): Store {
  return {
    leases: store.leases,
    versions: () => store.versions(),
    close: () => store.close(),
    transaction: async (work) => {
      const seen = { writes: 0 }
      const result = await store.transaction((records) => {
        const watched = new Proxy<Records>(records, {
          get: (object, name) => {
            const method = Reflect.get(object, name) as (...args: unknown[]) => unknown
            return (...args: unknown[]) => {
              if ((WRITES as readonly (string | symbol)[]).includes(name)) seen.writes++
              return Reflect.apply(method, object, args)
            }
          },
        })
        return work(watched)
      })
      if (seen.writes > 0) point()
      return result
    },
  }
}

const engine = new Engine(mortalStore(await SqliteStore.open(join(dir, 'db'))), dir, {
  daemon: { controlSocket, url },
  timers: { ...TIMERS, pollMs: 20 },
  adapt: {
    clock: systemClock,
    volumes: (volumes: Volumes) => mortal(volumes, ['create', 'remove', 'facts']),
    verifier: (verifier: Verifier) => mortal(verifier, ['verify']),
    nbd: (nbd: NbdServers) => nbd,
  },
})
const host = engine.hosts.get('host')!
Object.assign(host, {
  tickets: mortal(host.tickets, ['install', 'remove', 'removeForGood', 'state']),
})
if (plan === 'refuse') engine.verifier.verdict = { ok: false, reason: 'by plan' }
await engine.hosts.start()
await engine.manager.start()

/** What a client does that looks where things are before it goes on. */
async function client(): Promise<Outcome | undefined> {
  const { service } = engine
  const disk = await service.disk('d')
  const [transfer] = await service.transfers()
  if (transfer === undefined) {
    if (disk === undefined) await engine.addDisk({ id: 'd', provisionedSize: imageOf().length })
    else if (disk.status === 'ok') await engine.addTransfer({ diskId: 'd' })
    return undefined
  }
  if (transfer.phase === 'transferring') {
    const path = new URL(transfer.transferUrl ?? '').pathname
    const { hostname, port } = new URL(url)
    const target = { host: hostname, port: Number(port), ca: readFileSync(caFile, 'utf8') }
    const reply = await request(target, 'PUT', path, { body: imageOf() })
    if (reply.status !== 200) return undefined
    point()
    await service.act(transfer.id, (plan as Plan) === 'cancel' ? 'cancel' : 'finalize')
    return undefined
  }
  if (transfer.phase === 'paused_system') await service.act(transfer.id, 'resume')
  if (!transfer.phase.startsWith('finished') || transfer.phase === 'finished_cleanup')
    return undefined
  return {
    points: counter.points,
    phase: transfer.phase,
    status: disk?.status ?? 'gone',
    ticket: transfer.ticketId,
  }
}

for (;;) {
  const outcome = await client()
  if (outcome !== undefined) {
    await engine.stop()
    process.stdout.write(JSON.stringify(outcome))
    break
  }
  await sleep(5)
}
