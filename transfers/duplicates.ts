/**
 * Hosts and storage domains that clients, or the database, could not tell apart. One would take the
 * other's place without a word, and with it its disks.
 */
import type { Report } from '../core/config/load.js'
import { idOf } from './ids.js'

/** What the configuration says of one of them. */
export interface Named {
  readonly section: string
  readonly name: string
  /** Undefined where the section is the name. */
  readonly nameKey?: string
  /** As it is written; empty is made from the name. */
  readonly id: string
  /** Undefined where it cannot be chosen. */
  readonly idKey?: string
}

/** In the order of the configuration: the later one of two is told of. */
export function reportDuplicates(
  kind: 'host' | 'storage domain',
  all: readonly Named[],
  report: Report,
): void {
  for (const [index, one] of all.entries()) {
    for (const other of all.slice(0, index)) {
      const isSameName = one.name === other.name
      if (isSameName) {
        const reason = `${one.name} is also the name of ${place(other, other.nameKey)}: rename one of them`
        report.fail(one.section, one.nameKey ?? 'name', reason)
      }
      // From one name follows one id, which was told.
      const isFromName = one.id === '' && other.id === ''
      if ((isSameName && isFromName) || idIn(kind, one) !== idIn(kind, other)) continue
      const reason = `${idIn(kind, one)} is also the id of ${place(other, other.idKey)}: each ${kind} needs its own, change that of the new one`
      report.fail(one.section, one.idKey ?? 'id', reason)
    }
  }
}

function idIn(kind: 'host' | 'storage domain', { id, name }: Named): string {
  return id || idOf(kind, name)
}

function place({ section }: Named, key: string | undefined): string {
  return key === undefined ? `[${section}]` : `[${section}] ${key}`
}
