/** Images as attackers make them: by qemu-img, or by hand from one that qemu-img made. */
import { mkdtempSync, rmSync } from 'node:fs'
import { open, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { verifyVolume, type Verification } from '../../../transfers/verify/verify.js'
import { run } from '../../support/tools.js'

export const MiB = 1024 * 1024
export const SIZE = 64 * MiB
export const CLUSTER = 65_536

export function directory(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'imageio-verify-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** A path in a directory of its own. */
export function newPath(t: Test): string {
  return join(directory(t), 'volume')
}

export async function qcow2(
  t: Test,
  { options = 'compat=1.1', args = [] as readonly string[], size = SIZE } = {},
): Promise<string> {
  const path = newPath(t)
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', options, ...args, path, `${size}`])
  return path
}

/** Overwrites bytes of an image. */
export async function patch(path: string, offset: number, bytes: Buffer): Promise<void> {
  const file = await open(path, 'r+')
  try {
    await file.write(bytes, 0, bytes.length, offset)
  } finally {
    await file.close()
  }
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

export function u64(value: bigint | number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(value))
  return bytes
}

export async function setBit(path: string, field: number, bit: number): Promise<void> {
  const value = (await readFile(path)).readBigUInt64BE(field)
  await patch(path, field, u64(value | (1n << BigInt(bit))))
}

/** Where qemu-img left the list of header extensions. */
export const EXTENSIONS = 112

/** In place of all that qemu-img wrote. */
export async function setExtensions(
  path: string,
  ...extensions: readonly (readonly [type: number, data: Buffer, length?: number])[]
): Promise<void> {
  const parts = extensions.flatMap(([type, data, length = data.length]) => {
    const padding = Buffer.alloc((8 - (data.length % 8)) % 8)
    return [u32(type), u32(length), data, padding]
  })
  const all = Buffer.concat([...parts, Buffer.alloc(8)])
  await patch(path, EXTENSIONS, all)
}

/** A raw volume of 1 MiB that begins with these bytes. */
export async function raw(t: Test, head: string | Buffer = ''): Promise<string> {
  const path = newPath(t)
  const bytes = Buffer.alloc(MiB)
  Buffer.from(head as string, 'latin1').copy(bytes)
  await writeFile(path, bytes)
  return path
}

export function verifyCow(path: string, provisionedSize = SIZE): Promise<Verification> {
  return verifyVolume({ path, format: 'cow', provisionedSize })
}

export function verifyRaw(path: string, provisionedSize = MiB): Promise<Verification> {
  return verifyVolume({ path, format: 'raw', provisionedSize })
}

export function refused(t: Test, result: Verification, reason: RegExp): void {
  t.equal(result.ok, false, 'refused')
  t.match(result, { reason })
}

export function io(path: string, ...commands: readonly string[]): Promise<string> {
  return run('qemu-io', ['-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), path])
}

export function snapshot(path: string, name: string): Promise<string> {
  return run('qemu-img', ['snapshot', '-c', name, path])
}

/** Fine granularity: more bits. */
export function addBitmap(path: string, name: string, granularity = '512'): Promise<string> {
  return run('qemu-img', ['bitmap', '--add', '-g', granularity, path, name])
}
