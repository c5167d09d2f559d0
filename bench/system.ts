/** A server under test, as the runner sees it. */
export interface System {
  readonly name: string
  /** Process whose tree is charged with CPU time. */
  readonly pid: number
  /** Makes `files` reachable; the answer has one target for each. */
  serve(files: readonly string[], direction: Direction): Promise<readonly Target[]>
  stop(): Promise<void>
}

export type Direction = 'GET' | 'PUT'
export type Transport = 'TLS' | 'unix'

export interface Target {
  /** Arguments of curl that reach the image, without those of the direction. */
  readonly curl: (transport: Transport) => readonly string[]
  /** The file that holds the image. */
  readonly file: string
}
