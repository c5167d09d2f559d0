/** The real service, daemon and proxy, named as in the recordings: storage domain sd1, host 456. */
import { join } from 'node:path'
import type { Test } from 'tap'
import { phaseOf, Sdk, transferXml } from '../../support/sdk.js'
import { run } from '../../support/tools.js'
import {
  startSystem,
  tag,
  type SystemOptions,
  type TransferSystem,
} from '../../support/transfers.js'

export const MiB = 2 ** 20
export const HARDWARE = '4c4c4544-0044-4a10-8035-b4c04f4d3233'

export function startFlows(t: Test, options: SystemOptions = {}): Promise<TransferSystem> {
  const named = { host_name: 'host1', hardware_id: HARDWARE, ...options.transfers }
  return startSystem(t, { ...options, domain: 'sd1', transfers: named })
}

/** The documentation's disk, with an id. */
export function diskXml(id: string, format: 'raw' | 'cow', size: number): string {
  return `<disk id="${id}">
  <format>${format}</format>
  <initial_size>${size}</initial_size>
  <name>${id}</name>
  <provisioned_size>${size}</provisioned_size>
  <storage_domains>
    <storage_domain>
      <name>sd1</name>
    </storage_domain>
  </storage_domains>
</disk>
`
}

/** A disk that is ready, made as the SDK does it. */
export async function addDisk(
  sdk: Sdk,
  id: string,
  size: number,
  format: 'raw' | 'cow' = 'raw',
): Promise<void> {
  await sdk.add('disks', diskXml(id, format, size))
  await sdk.diskStatus(id, 'ok')
}

export interface Begun {
  readonly id: string
  readonly text: string
  readonly url: string
  readonly proxyUrl: string
}

/** Adds the transfer and polls it until it is transferring. */
export async function begin(
  system: TransferSystem,
  sdk: Sdk,
  ...lines: readonly string[]
): Promise<Begun> {
  return beginWith(system, sdk, transferXml(...lines))
}

export async function beginWith(system: TransferSystem, sdk: Sdk, body: string): Promise<Begun> {
  const { id, text: first } = await sdk.add('imagetransfers', body)
  if (!/^(initializing|transferring)$/.test(phaseOf(first) ?? '')) throw new Error(first)
  const text = await sdk.phase(id, 'transferring')
  const { url, proxyUrl } = system.seen(id, text)
  return { id, text, url, proxyUrl }
}

/** The file of a disk. */
export async function volume(system: TransferSystem, sdk: Sdk, id: string): Promise<string> {
  return join(system.images, tag(await sdk.get(`disks/${id}`), 'image_id') ?? '')
}

/** Throws unless the guest of the disk sees these bytes. */
export async function compare(
  system: TransferSystem,
  sdk: Sdk,
  id: string,
  file: string,
  format: 'raw' | 'qcow2' = 'raw',
): Promise<void> {
  const path = await volume(system, sdk, id)
  await run('qemu-img', ['compare', '-f', format, '-F', 'raw', path, file])
}
