/** What a proxy costs, beside the daemon's part in the same transfers, as a table. */
import { figures, ratio, table, type Result } from './report.js'

/** `direct` is the system without anything in front of the daemon. */
export function formatProxies(results: readonly Result[], direct: string): string {
  const rows = results.map((result) => {
    const own = figures(result)
    const reference = results.find(
      ({ title, system }) => title === result.title && system === direct,
    )
    const isFront = result.system !== direct
    const daemonCpu = isFront ? (own.behindCpu ?? NaN) : own.cpu
    const peaks = result.runs.flatMap(({ peakMiB }) => peakMiB ?? [])
    return [
      result.title,
      result.system,
      own.rate.toFixed(2),
      isFront ? own.cpu.toFixed(2) : '',
      daemonCpu.toFixed(2),
      ratio(own.rate, isFront && reference ? figures(reference).rate : undefined),
      ratio(own.cpu, isFront ? daemonCpu : undefined),
      // A bound is a bound: not the median.
      peaks.length > 0 ? Math.max(...peaks).toFixed(0) : '',
    ]
  })
  const header = ['case', 'system', 'GiB/s', 'front CPU s/GiB', 'daemon CPU s/GiB']
  return table([...header, `rate to ${direct}`, 'CPU front to daemon', 'front MiB at peak'], rows)
}
