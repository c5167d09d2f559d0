/** The group that reads and writes what the service makes: the daemon's, when it is another user. */
import { lookUpId } from '../core/privileges.js'
import type { TransfersConfig } from './options.js'

/** Undefined where files have our own group. Throws when it is unknown, or when we cannot give to it. */
export function groupOf({ transfers: { group } }: TransfersConfig): number | undefined {
  if (group === '') return undefined
  const gid = /^\d+$/.test(group) ? Number(group) : find(group)
  const isOurs = process.getegid?.() === gid || process.getgroups?.().includes(gid) === true
  if (process.geteuid?.() === 0 || isOurs) return gid
  throw new Error(`[transfers] group: this user is no member of ${group}`)
}

function find(name: string): number {
  try {
    return lookUpId('group', name)
  } catch (cause) {
    throw new Error(`[transfers] group: there is no group ${JSON.stringify(name)}`, { cause })
  }
}
