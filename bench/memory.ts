/** Memory of a process at its peak (VmHWM), which can be made to begin anew (proc(5)). */
import { readFileSync, writeFileSync } from 'node:fs'
import { MiB } from '../core/units.js'

/** Forgets earlier peaks. The answer is what is used now, in MiB. */
export function restartPeak(pid: number): number {
  writeFileSync(`/proc/${pid}/clear_refs`, '5')
  return peakMiB(pid)
}

export function peakMiB(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1')
  const kiB = /^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]
  return (Number(kiB) * 1024) / MiB
}
