/** CPU time, user and system: of a server with all its threads and children, and of clients. */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'

const TICKS_PER_SECOND = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))

interface Process {
  readonly pid: number
  readonly parent: number
  /** Its own, and those of its children that have ended. */
  readonly ticks: number
  readonly endedTicks: number
}

/** Seconds used so far by a process and its children. */
export function cpuSeconds(root: number): number {
  const processes = readdirSync('/proc').filter(isNumber).map(readProcess).filter(isDefined)
  const tree = new Set([root])
  // A child can be listed before its parent, so once more as long as something was found.
  for (let found = -1; found !== tree.size;) {
    found = tree.size
    for (const { pid, parent } of processes) if (tree.has(parent)) tree.add(pid)
  }
  const mine = processes.filter(({ pid }) => tree.has(pid))
  return mine.reduce((sum, { ticks }) => sum + ticks, 0) / TICKS_PER_SECOND
}

/** Seconds used so far by the programs that this process has run to their end. */
export function endedChildrenSeconds(): number {
  return (readProcess(String(process.pid))?.endedTicks ?? 0) / TICKS_PER_SECOND
}

function readProcess(name: string): Process | undefined {
  try {
    const text = readFileSync(`/proc/${name}/stat`, 'latin1')
    // The second field is the program's name in parentheses, which may hold anything.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    const field = (number: number): number => Number(fields[number - 3])
    // utime and stime, and those of children that have ended (proc(5)).
    const endedTicks = field(16) + field(17)
    const ticks = field(14) + field(15) + endedTicks
    return { pid: Number(name), parent: field(4), ticks, endedTicks }
  } catch {
    return undefined // ended meanwhile
  }
}

function isNumber(text: string): boolean {
  return /^\d+$/.test(text)
}

function isDefined<T>(value: T | undefined): value is T {
  return value !== undefined
}
