/**
 * Ways to make a range read as zeroes, best first. Storage differs in what it knows; each call it
 * doesn't is remembered for the image, and the next way is tried. When all ways are used up the
 * caller writes zeroes.
 */
import { SystemError } from '../../native/index.js'

export type ZeroCall = 'zero-range' | 'punch-hole' | 'allocate' | 'zero-out'

/** Calls that give zeroes together, in order. */
type Way = readonly ZeroCall[]

export interface Circumstances {
  readonly isBlockDevice: boolean
  readonly mayPunchHole: boolean
  /** The range starts at or after the end of the file. */
  readonly isBeyondEnd: boolean
}

/**
 * Punching a hole guarantees zeroes on files and on devices alike (for a device the kernel asks for
 * "no fallback", so a device that only discards refuses). A range emptied and allocated again holds
 * unwritten extents, which read as zeroes, as does what is allocated beyond the end.
 */
export function waysToZero({ isBlockDevice, mayPunchHole, isBeyondEnd }: Circumstances): Way[] {
  if (isBlockDevice) {
    const keeping: Way[] = [['zero-range'], ['zero-out']]
    return mayPunchHole ? [['punch-hole'], ...keeping] : keeping
  }
  if (mayPunchHole) return [['punch-hole']]
  const ways: Way[] = [['zero-range'], ['punch-hole', 'allocate']]
  return isBeyondEnd ? [...ways, ['allocate']] : ways
}

/** Whether one of the ways was gone to its end. Rejects when the storage failed. */
export async function zeroByCalls(
  ways: readonly Way[],
  refused: Set<string>,
  call: (name: ZeroCall) => Promise<void>,
): Promise<boolean> {
  for (const way of ways) if (await goWay(way, refused, call)) return true
  return false
}

async function goWay(
  way: Way,
  refused: Set<string>,
  call: (name: ZeroCall) => Promise<void>,
): Promise<boolean> {
  if (way.some((name) => refused.has(name))) return false
  for (const name of way) {
    try {
      await call(name)
    } catch (error) {
      if (!(error instanceof SystemError)) throw error
      if (NEVER.has(error.code)) refused.add(name)
      else if (!NOT_NOW.has(error.code)) throw error
      return false
    }
  }
  return true
}

/** libuv says ENOTSUP for EOPNOTSUPP. ENODEV is the kernel's word for "no fallocate on devices". */
const NEVER = new Set(['EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'ENOTTY', 'ENODEV'])

/** Some storage takes other alignments than its block size tells; that depends on the range. */
const NOT_NOW = new Set(['EINVAL'])

/** Pieces of zeroes that are written: as large as a buffer of the pool. */
export const MAX_ZERO_WRITE = 1024 * 1024
