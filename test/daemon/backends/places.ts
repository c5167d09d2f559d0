/** File systems that differ in what they take, to run the same tests on. */
import t, { type Test } from 'tap'
import { mountedFileSystem, withoutLoopDevices } from '../../support/loop-device.js'
import { tmpfsDirectory, withoutTmpfs } from './images.js'

const MiB = 1024 * 1024

export const loopSkip = await withoutLoopDevices()
const places: { name: string; skip: string | false; directory: (t: Test) => Promise<string> }[] = [
  { name: 'checkout', skip: false, directory: async (t) => t.testdir({}) },
  { name: 'tmpfs', skip: withoutTmpfs(), directory: tmpfsDirectory },
  {
    name: 'ext4 with 4096-byte sectors',
    skip: loopSkip,
    directory: (t) => mountedFileSystem(t, { size: 256 * MiB, sectorSize: 4096 }),
  },
  {
    name: 'ext4 with 512-byte sectors and 1 KiB blocks',
    skip: loopSkip,
    directory: (t) => mountedFileSystem(t, { size: 128 * MiB }),
  },
]

/** Runs the tests in a directory of each place. */
export function inEachPlace(tests: (t: Test, directory: string) => Promise<void>): void {
  for (const place of places) {
    t.test(place.name, { skip: place.skip }, async (t) => {
      await tests(t, await place.directory(t))
    })
  }
}
