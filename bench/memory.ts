/** Memory of a process and its children at the peak of each (VmHWM), which can begin anew (proc(5)). */
import { readFileSync, writeFileSync } from 'node:fs'
import { MiB } from '../core/units.js'
import { processTree } from './cpu.js'

/** Forgets earlier peaks. The answer is what is used now, in MiB. */
export function restartPeak(root: number): number {
  for (const { pid } of processTree(root)) writeFileSync(`/proc/${pid}/clear_refs`, '5')
  return peakMiB(root)
}

export function peakMiB(root: number): number {
  return processTree(root).reduce((sum, { pid }) => sum + peakOf(pid), 0)
}

/** What is used now. */
export function residentMiB(root: number): number {
  return processTree(root).reduce((sum, { pid }) => sum + fieldOf(pid, 'VmRSS'), 0)
}

function peakOf(pid: number): number {
  return fieldOf(pid, 'VmHWM')
}

function fieldOf(pid: number, name: 'VmHWM' | 'VmRSS'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1')
  const kiB = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]
  return (Number(kiB) * 1024) / MiB
}
