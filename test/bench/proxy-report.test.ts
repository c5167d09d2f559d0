import t from 'tap'
import { formatProxies } from '../../bench/proxy-report.js'
import type { Run } from '../../bench/report.js'

const GiB = 2 ** 30
const DIRECT = 'direct'

/** Cells of the rows below the header. */
function rows(table: string): string[][] {
  return table
    .trimEnd()
    .split('\n')
    .slice(2)
    .map((line) => line.slice(2, -2).split(' | '))
}

function result(title: string, system: string, ...runs: Run[]) {
  return { title, system, size: 2 * GiB, runs }
}

t.test('a proxy is compared with the daemon: alone, and in the same transfer', async (t) => {
  const behind = { seconds: 4, cpuSeconds: 3, behindCpuSeconds: 2, peakMiB: 90 }
  const table = formatProxies(
    [
      result('GET', DIRECT, { seconds: 2, cpuSeconds: 1 }),
      result('GET', 'front', behind),
      result('PUT', DIRECT, { seconds: 1, cpuSeconds: 1 }),
    ],
    DIRECT,
  )
  t.strictSame(rows(table), [
    ['GET', DIRECT, '1.00', '', '0.50', '', '', ''],
    ['GET', 'front', '0.50', '1.50', '1.00', '0.50 ×', '1.50 ×', '90'],
    ['PUT', DIRECT, '2.00', '', '0.50', '', '', ''],
  ])
})

t.test('of several runs the times are medians and the memory is the most', async (t) => {
  const runs = [3, 1, 8].map((seconds) => ({
    seconds,
    cpuSeconds: seconds,
    behindCpuSeconds: 2 * seconds,
    peakMiB: 10 * seconds,
  }))
  const table = formatProxies([result('GET', 'front', ...runs)], DIRECT)
  t.strictSame(rows(table), [['GET', 'front', '0.67', '1.50', '3.00', '', '0.50 ×', '80']])
})

t.test('CPU time too short for the clock has no ratio', async (t) => {
  const run = { seconds: 1, cpuSeconds: 1, behindCpuSeconds: 0 }
  const table = formatProxies([result('GET', 'front', run)], DIRECT)
  t.strictSame(rows(table), [['GET', 'front', '2.00', '0.50', '0.00', '', '', '']])
})
