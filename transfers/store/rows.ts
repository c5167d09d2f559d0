/** Records as rows of the tables, and back. */
import { isFinal } from '../lifecycle/phases.js'
import type { Id } from '../model.js'
import { isDiskWork, type StoredDisk, type StoredTransfer } from './records.js'

export const DISK_COLUMNS = ['id', 'image_id', 'in_work', 'owner', 'record'] as const
export const TRANSFER_COLUMNS = [
  ...(['id', 'disk_id', 'is_final', 'version', 'owner', 'record'] as const),
] as const

type Value = string | number | null

export function diskRow(disk: StoredDisk): Value[] {
  const { owner, ...record } = disk
  const isInWork = isDiskWork(disk.lockedBy) ? 1 : 0
  return [disk.id, disk.imageId, isInWork, owner ?? null, JSON.stringify(record)]
}

export function transferRow(transfer: StoredTransfer): Value[] {
  const { owner, version, ...record } = transfer
  const isFinished = isFinal(transfer.phase) ? 1 : 0
  const { id, diskId } = transfer
  return [id, diskId, isFinished, version, owner ?? null, JSON.stringify(record)]
}

/** JSON leaves out what is undefined, and reading what is not there is undefined again. */
export function diskOf(row: Row): StoredDisk {
  const record = JSON.parse(String(row['record'])) as Omit<StoredDisk, 'owner'>
  return { ...record, owner: ownerOf(row) }
}

export function transferOf(row: Row): StoredTransfer {
  const record = JSON.parse(String(row['record'])) as Omit<StoredTransfer, 'owner' | 'version'>
  return { ...record, owner: ownerOf(row), version: Number(row['version']) }
}

export function ownerOf(row: Row): Id | undefined {
  return typeof row['owner'] === 'string' ? row['owner'] : undefined
}

/** As both drivers give it. */
export type Row = Readonly<Record<string, unknown>>

/** INSERT with a placeholder per column. */
export function insertInto(
  table: string,
  columns: readonly string[],
  placeholder: (n: number) => string,
): string {
  const values = columns.map((_, index) => placeholder(index + 1)).join(', ')
  return `INSERT INTO ${table} (${columns.join(', ')}) VALUES (${values})`
}
