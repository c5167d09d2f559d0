/** Paths of objects below the version of the API that the client uses; it follows no others. */
import type { WireObject } from './wire.js'

export const API = '/ovirt-engine/api'
/** The same tree, by the name of its version. */
export const API_V4 = `${API}/v4`

export type Collection =
  | 'clusters'
  | 'datacenters'
  | 'disks'
  | 'hosts'
  | 'imagetransfers'
  | 'jobs'
  | 'storagedomains'
  | 'vms'

export class Links {
  readonly base: string
  constructor(base: string) {
    this.base = base
  }

  to(collection: Collection, id: string, ...rest: readonly string[]): string {
    return [this.base, collection, encodeURIComponent(id), ...rest].join('/')
  }

  /** Names an object without showing it. */
  reference(collection: Collection, id: string): WireObject {
    return { href: this.to(collection, id), id }
  }

  /** Links to collections that belong to an object. */
  rels(collection: Collection, id: string, rels: readonly string[]): WireObject[] {
    return rels.map((rel) => ({ href: this.to(collection, id, rel), rel }))
  }

  actions(collection: Collection, id: string, actions: readonly string[]): WireObject {
    return { link: this.rels(collection, id, actions) }
  }
}
