/** How long sessions of PostgreSQL may take, by the clocks of both ends. */
import type { ClientBase } from 'pg'

/** Milliseconds. */
export const TIMES = {
  connect: 10_000,
  statement: 30_000,
  /** The client's own, for a server or network that says nothing any more. */
  answer: 35_000,
  /** Transactions are short: a lock that is not free by then is tried for anew, on a free connection. */
  lock: 3000,
  /**
   * A transaction whose client says nothing for so long is rolled back, and its locks are free: well
   * before any lease ends, and within the tries of who waits for a lock.
   */
  idleInTransaction: 10_000,
  /** All that renews a lease: several have to fit into the shortest one. */
  lease: 5000,
  keepAlive: 10_000,
  /** To learn what became of a commit that was cut off. */
  outcome: 30_000,
} as const

/** For clients that are gone without a word. */
const SETTINGS: readonly (readonly [string, string])[] = [
  ['tcp_keepalives_idle', '10'],
  ['tcp_keepalives_interval', '3'],
  ['tcp_keepalives_count', '3'],
  ['tcp_user_timeout', '10000'],
  ['client_connection_check_interval', '5000'],
]

/** Those that a server of this version has. The pool waits for it, which its types do not know. */
export function onConnect(client: ClientBase): unknown {
  return client.query(
    `SELECT set_config(name, value, false)
       FROM unnest(CAST($1 AS TEXT[]), CAST($2 AS TEXT[])) AS wanted (name, value)
       JOIN pg_settings USING (name)`,
    [SETTINGS.map(([name]) => name), SETTINGS.map(([, value]) => value)],
  )
}

/**
 * Whether an SQLSTATE is of a server that serves: others are of connections (08), of one that stops or
 * starts (57P), of one that has no connection left (53300), of time that is over (57014, 25P03).
 */
export function isServing(code: string): boolean {
  return !/^(08|57P|53300|57014|25P03)/.test(code)
}
