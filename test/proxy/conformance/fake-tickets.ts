/** Tickets at a proxy whose images are at a scripted daemon. */
import { randomUUID } from 'node:crypto'
import { MiB } from '../../../core/units.js'
import type { Daemon } from '../../support/daemon.js'

export async function addTicket(
  proxy: Daemon,
  fake: { url: string },
  fields = {},
): Promise<string> {
  const uuid = randomUUID()
  await proxy.addTicket({ uuid, url: `${fake.url}/images/${uuid}`, size: MiB, ...fields })
  return `/images/${uuid}`
}
