/** Whether qemu, wherever it runs on this storage, has an image open for writing. */
import type { FileHandle } from 'node:fs/promises'
import { isLocked } from '../../native/index.js'
import { VerificationError } from './limited-child.js'

/**
 * What a qemu does with an image is a byte each, locked as long as it may do that: 100 reads, these
 * write, write what is there, and resize. It is so since qemu 2.10.
 */
const WRITE_LOCKS = { start: 101, size: 3 } as const

/** File systems without locks: there nobody can know. */
const NO_LOCKS: ReadonlySet<string> = new Set(['ENOLCK', 'ENOSYS', 'EINVAL', 'EOPNOTSUPP'])

/**
 * Throws VerificationError: what is looked at may still change, though the one who drives the transfer
 * has ended every writer that it knows. Another machine may have one, started by an instance that is gone.
 */
export async function checkNoWriter({ fd }: FileHandle): Promise<void> {
  const isWritten = await isLocked(fd, WRITE_LOCKS.start, WRITE_LOCKS.size).catch(
    (error: unknown) => {
      if (NO_LOCKS.has((error as NodeJS.ErrnoException).code ?? '')) return false
      throw error
    },
  )
  if (!isWritten) return
  throw new VerificationError(
    'another program has the volume open for writing: a qemu-nbd that was left over, or a virtual machine',
  )
}
