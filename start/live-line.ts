/** The line that shows bytes moved and rate: redrawn on a terminal, else printed when it changes. */
import { humanBytes } from '../ctl/table.js'
import type { Progress } from './tickets.js'

export interface LiveLine {
  update(progress: Progress, nowMs: number): void
  /** A line that stays, above this one. */
  say(text: string): void
  /** Leaves the cursor on an empty line. */
  close(): void
}

export interface LiveLineOptions {
  readonly isTerminal: boolean
  readonly columns: () => number
  readonly write: (text: string) => void
}

const CLEAR_LINE = '\r\u001b[K'
/** A rate over less than this jumps with every buffer. */
const RATE_WINDOW_MS = 2000

interface Sample {
  readonly ms: number
  readonly moved: number
}

export function createLiveLine({ isTerminal, columns, write }: LiveLineOptions): LiveLine {
  const samples: Sample[] = []
  let shown = ''

  const rate = (now: Sample): number => {
    samples.push(now)
    while (samples.length > 2 && now.ms - (samples[1]?.ms ?? 0) >= RATE_WINDOW_MS) samples.shift()
    const first = samples[0] ?? now
    return now.ms > first.ms ? ((now.moved - first.moved) / (now.ms - first.ms)) * 1000 : 0
  }

  return {
    update(progress, nowMs) {
      const bytesPerSecond = rate({ ms: nowMs, moved: progress.moved })
      const text = format(progress, Math.max(0, bytesPerSecond))
      // A rate that fades is worth redrawing, but not another line.
      const news = isTerminal ? text : `${progress.moved} ${progress.clients} ${progress.isActive}`
      if (news === shown) return
      // Wider than the terminal it would wrap, and could not be redrawn.
      if (isTerminal) write(CLEAR_LINE + text.slice(0, Math.max(1, columns() - 1)))
      else write(`${text}\n`)
      shown = news
    },
    say(text) {
      if (isTerminal && shown !== '') write(CLEAR_LINE)
      write(`${text}\n`)
      if (isTerminal) shown = '' // to be drawn again
    },
    close() {
      if (isTerminal && shown !== '') write('\n')
    },
  }
}

function format({ moved, clients, isActive }: Progress, rate: number): string {
  const parts = [`moved ${humanBytes(moved)}`]
  if (isActive || rate > 0) parts.push(`${humanBytes(Math.round(rate))}/s`)
  else parts.push('idle')
  if (clients > 0) parts.push(clients === 1 ? '1 client' : `${clients} clients`)
  return parts.join(', ')
}
