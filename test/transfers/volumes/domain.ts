/** A storage domain in a directory of its own, and what may be created in it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { MiB } from '../../../core/units.js'
import { DirectoryVolumes } from '../../../transfers/volumes/directory-volumes.js'
import type { VolumeSpec } from '../../../transfers/volumes/volume-provider.js'

export const IMAGE = '4f2a1a0c-8a1e-4b4c-9a0e-0d8f6a1b2c3d'

export function domain(t: Test, options: { group?: number; reserved?: number } = {}) {
  const path = mkdtempSync(join(tmpdir(), 'imageio-volumes-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return { path, volumes: new DirectoryVolumes({ path, ...options }) }
}

export function spec(fields: Partial<VolumeSpec> = {}): VolumeSpec {
  return {
    imageId: IMAGE,
    format: 'raw',
    provisionedSize: 4 * MiB,
    initialSize: undefined,
    sparse: true,
    ...fields,
  }
}
