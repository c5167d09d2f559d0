import t from 'tap'
import { AnswerReader } from '../../bench/request-client.js'
import {
  formatExtents,
  formatReport,
  formatRequests,
  median,
  type Run,
} from '../../bench/report.js'

const GiB = 2 ** 30

/** Cells of the rows below the header. */
function rows(table: string): string[][] {
  return table
    .trimEnd()
    .split('\n')
    .slice(2)
    .map((line) => line.slice(2, -2).split(' | '))
}

function header(table: string): string {
  return table.slice(0, table.indexOf('\n'))
}

function result(title: string, system: string, ...runs: Run[]) {
  return { title, system, size: 2 * GiB, runs }
}

t.test('a system is compared with the reference of its own case', async (t) => {
  const table = formatReport(
    [
      result('GET', 'ours', { seconds: 2, cpuSeconds: 1 }),
      result('GET', 'theirs', { seconds: 4, cpuSeconds: 4 }),
      result('PUT', 'ours', { seconds: 1, cpuSeconds: 1 }),
    ],
    { system: 'theirs' },
  )
  t.match(header(table), 'rate to theirs | CPU to theirs')
  t.strictSame(rows(table), [
    ['GET', 'ours', '1.00', '0.50', '2.00 ×', '0.25 ×'],
    ['GET', 'theirs', '0.50', '2.00', '', ''],
    ['PUT', 'ours', '2.00', '0.50', '', ''],
  ])
})

t.test('a reference may count several times, for rates', async (t) => {
  const table = formatReport(
    [
      result('hash', 'ours', { seconds: 1, cpuSeconds: 2 }),
      result('hash', 'one core', { seconds: 1, cpuSeconds: 1 }),
    ],
    { system: 'one core', times: 4, label: '4 cores' },
  )
  t.match(header(table), 'rate to 4 cores | CPU to one core')
  t.strictSame(rows(table)[0], ['hash', 'ours', '2.00', '1.00', '0.25 ×', '2.00 ×'])
})

t.test('the CPU time of NBD servers has a column when there are any', async (t) => {
  const runs = [3, 1, 8].map((seconds) => ({
    seconds: 1,
    cpuSeconds: 1,
    behindCpuSeconds: seconds,
  }))
  const table = formatReport(
    [result('GET', 'nbd', ...runs), result('GET', 'file', { seconds: 1, cpuSeconds: 1 })],
    { system: 'file' },
  )
  t.match(header(table), 'CPU s/GiB | qemu-nbd s/GiB | rate')
  t.strictSame(rows(table), [
    ['GET', 'nbd', '2.00', '0.50', '1.50', '1.00 ×', '1.00 ×'],
    ['GET', 'file', '2.00', '0.50', '', '', ''],
  ])
})

t.test('CPU time too short for the clock has no ratio', async (t) => {
  const run = { seconds: 1, cpuSeconds: 0 }
  const table = formatReport([result('GET', 'a', run), result('GET', 'b', run)], { system: 'b' })
  t.strictSame(rows(table)[0], ['GET', 'a', '2.00', '0.00', '1.00 ×', ''])
})

t.test('of extents the times are medians and the memory is the most', async (t) => {
  const memory = (peakMiB: number) => ({ beforeMiB: 50, peakMiB })
  const table = formatExtents([
    {
      title: 'extents',
      system: 'ours',
      extents: 7,
      runs: [
        { firstMs: 3, lastMs: 10, memory: memory(60) },
        { firstMs: 1, lastMs: 30, memory: memory(90) },
        { firstMs: 2, lastMs: 20, memory: memory(70) },
      ],
    },
    { title: 'extents', system: 'tool', extents: 7, runs: [{ firstMs: 4, lastMs: 5 }] },
  ])
  t.strictSame(rows(table), [
    ['extents', 'ours', '7', '2.0', '20.0', '50', '90'],
    ['extents', 'tool', '7', '4.0', '5.0', '', ''],
  ])
})

t.test('the median of an even number lies between the two in the middle', async (t) => {
  t.equal(median([4, 1, 3, 100]), 3.5)
  t.equal(median([5]), 5)
})

t.test('requests: rate, times, and what one costs if the server did nothing else', async (t) => {
  const run = { requests: 2000, seconds: 2, medianMs: 0.5, p99Ms: 3 }
  const table = formatRequests([
    { title: 'OPTIONS', system: 'ours', runs: [{ ...run, cpuSeconds: 0.5 }] },
    { title: 'beside', system: 'ours', runs: [run] },
  ])
  t.strictSame(rows(table), [
    ['OPTIONS', 'ours', '1000', '0.50', '3.00', '250'],
    ['beside', 'ours', '1000', '0.50', '3.00', ''],
  ])
})

t.test('an answer ends where its length says, wherever it is cut', async (t) => {
  const answer = Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789')
  for (let cut = 1; cut < answer.length; cut++) {
    const reader = new AnswerReader()
    for (let round = 0; round < 2; round++) {
      t.equal(reader.push(answer.subarray(0, cut)), false)
      t.equal(reader.push(answer.subarray(cut)), true, `cut at ${cut}`)
    }
  }
  const push = (text: string) => () => new AnswerReader().push(Buffer.from(text))
  t.throws(push('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n'), /refused/)
  t.throws(push('HTTP/1.1 200 OK\r\n\r\n'), /without Content-Length/)
  t.throws(push('HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxx'), /more bytes/)
})
