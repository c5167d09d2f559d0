/**
 * The service is killed at every point of a transfer, and started again. However often, the transfer
 * ends as it should, and what is not whole is at no time said to be ok.
 */
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { SqliteStore } from '../../../transfers/store/sqlite-store.js'
import { startDaemon, type Daemon } from '../../support/daemon.js'
import { imageOf, type Outcome, type Plan } from './crash-plan.js'

const CHILD = fileURLToPath(import.meta.resolve('./crash-child.js'))
const MAX_POINTS = 200

interface Ended {
  readonly outcome: Outcome | undefined
  readonly said: string
}

/** Runs the process to its end; without an outcome it was killed. */
function run(dir: string, daemon: Daemon, plan: Plan, n: number): Promise<Ended> {
  const env = { ...process.env, NODE_OPTIONS: '' }
  const args = [CHILD, dir, daemon.controlSocket, daemon.url, daemon.caFile, plan, String(n)]
  return new Promise((resolve) => {
    execFile(process.execPath, args, { env, timeout: 30_000 }, (error, stdout, stderr) => {
      const outcome = error === null ? (JSON.parse(stdout) as Outcome) : undefined
      resolve({ outcome, said: `${String(error?.signal)} ${stderr}` })
    })
  })
}

/** What the database and the file say while no process runs. */
async function checkAtRest(t: Test, dir: string, what: string): Promise<void> {
  const store = await SqliteStore.open(join(dir, 'db'))
  try {
    await store.transaction(async (records) => {
      const disk = await records.disk('d')
      const [transfer] = await records.transfers()
      if (transfer === undefined || disk === undefined) return
      if (disk.status === 'ok') {
        t.equal(transfer.phase, 'finished_success', `${what}: ok only after success`)
        t.ok(imageIsWhole(dir), `${what}: ok only with all its data`)
      }
      const isFinished =
        transfer.phase.startsWith('finished') && transfer.phase !== 'finished_cleanup'
      const isLocked = disk.lockedBy === transfer.id
      t.equal(isLocked, !isFinished, `${what}: locked until the end, in ${transfer.phase}`)
    })
  } finally {
    await store.close()
  }
}

function imageIsWhole(dir: string): boolean {
  return readFileSync(join(dir, 'volumes', 'd')).equals(imageOf())
}

const ENDS: Readonly<Record<Plan, { readonly phase: string; readonly status: string }>> = {
  finalize: { phase: 'finished_success', status: 'ok' },
  refuse: { phase: 'finished_failure', status: 'illegal' },
  cancel: { phase: 'finished_failure', status: 'gone' },
}

export async function survive(t: Test, plan: Plan): Promise<void> {
  const daemon = await startDaemon(t)
  let crashes = 0
  for (let n = 1; n <= MAX_POINTS; n++) {
    const dir = mkdtempSync(join(tmpdir(), 'imageio-crash-'))
    try {
      const first = await run(dir, daemon, plan, n)
      await checkAtRest(t, dir, `killed at ${n}`)
      if (first.outcome !== undefined) {
        t.match(first.outcome, ENDS[plan], 'without a crash')
        break
      }
      t.match(first.said, /SIGKILL/, `killed at ${n}`)
      crashes++
      // Now and then once more, in the middle of what the restart does.
      const second = await run(dir, daemon, plan, n % 2 === 0 ? (n % 5) + 1 : 0)
      await checkAtRest(t, dir, `killed at ${n}, and again`)
      const { outcome, said } = second.outcome ? second : await run(dir, daemon, plan, 0)
      t.match(outcome, ENDS[plan], `killed at ${n}: ${said}`)
      t.equal(outcome?.ticket, undefined)
      if (plan === 'finalize') t.ok(imageIsWhole(dir), `killed at ${n}: all data is there`)
      await checkAtRest(t, dir, `killed at ${n}, and ended`)
    } finally {
      rmSync(dir, { recursive: true, force: true })
    }
  }
  t.ok(crashes >= 15, `${crashes} points`)
  const tickets = await daemon.controlRequest('GET', '/tickets')
  t.same(tickets.json, [], 'no ticket is left over')
}
