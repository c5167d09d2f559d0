/** A server under test, with the client that suits it, as the runner sees it. */
import type { Command } from './command.js'

export interface System {
  readonly name: string
  /** Systems with the same word upload to the same files. */
  readonly volume: string
  /** CPU time so far of what is measured. */
  cpuSeconds(): number
  /** The same of the NBD servers behind it. */
  exportCpuSeconds?(): number
  /** Makes `files` reachable; the answer has one target for each. */
  serve(files: readonly string[], direction: Direction): Promise<readonly Target[]>
  /** Ends what serve() has begun. */
  release(): Promise<void>
}

export type Direction = 'GET' | 'PUT'
export type Transport = 'TLS' | 'unix'

export interface Target {
  /** The file that holds the image. */
  readonly file: string
  readonly command: (transfer: Transfer) => Command
}

export interface Transfer {
  readonly direction: Direction
  readonly transport: Transport
  /** What is uploaded, or where a download goes; without it a download is thrown away. */
  readonly local?: string
}
