import t from 'tap'
import { targetRows } from '../../bench/targets.js'

const runs = (value: number, cpu: number) => [{ value, cpu_per_gib: cpu, wall: 1 }]

t.test('what was measured is compared with what was aimed at', async (t) => {
  const rows = targetRows([
    { case: 'get1-tls-tmpfs', system: 'ours', runs: runs(2, 0.4) },
    { case: 'get1-tls-tmpfs', system: 'null_batched', runs: runs(2, 0.5) },
    { case: 'get1-tls-tmpfs', system: 'nginx', runs: runs(4, 0.5) },
    { case: 'get1-unix-tmpfs', system: 'ours', runs: runs(2, 0.2) },
    { case: 'put1-tls-tmpfs', system: 'null', runs: runs(1, 0.8) },
  ])
  t.strictSame(rows, [
    ['get1-tls-tmpfs', 'CPU ≤ 1 × null_batched', '0.80 ×', 'met'],
    ['get1-tls-tmpfs', 'rate ≥ 1 × nginx', '0.50 ×', 'missed'],
    ['get1-unix-tmpfs', 'CPU ≤ 0.3 × null, put1-tls-tmpfs', '0.25 ×', 'met'],
  ])
})

t.test('what was not measured has no row', async (t) => {
  t.strictSame(targetRows([{ case: 'get1-tls-tmpfs', system: 'ours', runs: [] }]), [])
})
