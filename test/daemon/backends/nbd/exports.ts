/** Opening exports the way the daemon does. */
import type { Test } from 'tap'
import type { Backend } from '../../../../daemon/backends/backend.js'
import { ImageStates } from '../../../../daemon/backends/image-states.js'
import { openNbd, type OpenNbdOptions } from '../../../../daemon/backends/nbd/open.js'
import { MiB } from '../../../../core/units.js'
import { NbdMover } from '../../../../native/nbd.js'
import { within } from '../../../support/wait.js'

export type Options = Partial<Omit<OpenNbdOptions, 'nbd'>> & Partial<OpenNbdOptions['nbd']>

/** IMAGEIO_TEST_NATIVE=on runs the same tests on the threads of the addon. */
const mover = process.env['IMAGEIO_TEST_NATIVE'] === 'on' ? new NbdMover() : undefined

/** For writing, with short deadlines; closed at the end of the test. */
export async function openExport(t: Test, url: string, options: Options = {}): Promise<Backend> {
  const { maxRequest, connectTimeoutMs, operationTimeoutMs, caFile, ...others } = options
  const opening = openNbd(url, {
    writable: true,
    dirty: false,
    maxConnections: 8,
    images: new ImageStates(),
    onWritesLost: () => undefined,
    cancelGraceMs: 200,
    mover,
    ...others,
    nbd: {
      maxRequest: maxRequest ?? 8 * MiB,
      connectTimeoutMs: connectTimeoutMs ?? 1000,
      operationTimeoutMs: operationTimeoutMs ?? 5000,
      caFile,
    },
  })
  const backend = await within('open', 10_000, opening)
  t.teardown(() => backend.close())
  return backend
}

/** [length] bytes at [offset]. */
export async function read(backend: Backend, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length, 0xee)
  const got = await within('read', 10_000, backend.pread(buffer, offset))
  return buffer.subarray(0, got)
}
