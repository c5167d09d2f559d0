/** Between a client and the socket of a PostgreSQL server: it cuts connections where that hurts most. */
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

export interface PostgresRelay {
  /** Of the same database. */
  readonly url: string
  readonly cuts: number
  /** The next commit: before the server sees it, or before the client sees that it is made. */
  cutAtCommit(when: 'before' | 'after'): void
  /** Nobody is there. */
  close(): Promise<void>
  listen(): Promise<void>
}

const SOCKET = '.s.PGSQL.5432'

/** Listens until the test ends. */
export async function startRelay(t: Test, serverUrl: string): Promise<PostgresRelay> {
  const dir = mkdtempSync(join(tmpdir(), 'imageio-pg-'))
  const [address = '', serverDir = ''] = serverUrl.split('?host=')
  const open = new Set<Socket>()
  let cut: 'before' | 'after' | undefined
  let cuts = 0
  const server = createServer((client) => {
    const upstream = connect(join(decodeURIComponent(serverDir), SOCKET))
    for (const socket of [client, upstream]) {
      open.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        open.delete(socket)
        client.destroy()
        upstream.destroy()
      })
    }
    let isCut = false
    client.on('data', (chunk) => {
      if (cut !== undefined && chunk.includes('COMMIT')) {
        const when = cut
        cut = undefined
        cuts++
        isCut = true
        if (when === 'before') return void client.destroy()
      }
      upstream.write(chunk)
    })
    upstream.on('data', (chunk) => {
      if (isCut) client.destroy()
      else client.write(chunk)
    })
  })
  const listen = (): Promise<void> =>
    new Promise((resolve) => server.listen(join(dir, SOCKET), resolve))
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      for (const socket of open) socket.destroy()
      server.close(() => resolve())
    })
  t.teardown(async () => {
    await close()
    rmSync(dir, { recursive: true, force: true })
  })
  await listen()
  return {
    url: `${address}?host=${encodeURIComponent(dir)}`,
    get cuts() {
      return cuts
    },
    cutAtCommit: (when) => {
      cut = when
    },
    close,
    listen,
  }
}
