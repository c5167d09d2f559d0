/** Images as real ones are: with partitions, file systems, holes and fragments. */
import { randomBytes } from 'node:crypto'
import { open, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { run, without } from './tools.js'

const MiB = 1024 * 1024

/** A tree every Debian machine has, of some thousand files. */
const TREE = '/usr/share/doc'
const INSTALLER = '/usr/lib/debian-installer'

export const DISK_TOOLS = ['sfdisk', 'mke2fs', 'truncate'] as const

/** A disk with a partition table and an ext4 that holds a real tree. */
export async function partitionedDisk(file: string, size = 96 * MiB): Promise<void> {
  await run('truncate', ['--size', String(size), file])
  const table = `${file}.sfdisk`
  await writeFile(table, 'label: gpt\nstart=1MiB, type=linux\n')
  await run('sh', ['-c', 'sfdisk --quiet "$1" < "$2"', 'sh', file, table])
  await rm(table)
  const blocks = (size - 2 * MiB) / 4096
  const options = ['-q', '-F', '-t', 'ext4', '-b', '4096', '-E', `offset=${MiB}`]
  await run('mke2fs', [...options, '-d', await smallTree(file), file, String(blocks)])
}

/** A part of the tree that fits, beside the image. */
async function smallTree(file: string): Promise<string> {
  const target = `${file}.tree`
  const copy =
    'mkdir "$2" && find "$1" -mindepth 1 -maxdepth 1 | sort | head -200 | xargs cp -at "$2"'
  await run('sh', ['-c', copy, 'sh', TREE, target])
  return target
}

/** For `skip`: what keeps an installer ISO from being made. */
export async function withoutIso(): Promise<string | false> {
  const isMissing = await readFile(join(INSTALLER, 'images/12/amd64/text/version.info')).then(
    () => false,
    () => true,
  )
  if (isMissing) return 'debian-installer-12-netboot-amd64 is not installed'
  return without('xorriso')
}

/** An ISO 9660 image of Debian's installer. */
export async function installerIso(file: string): Promise<void> {
  const tree = join(INSTALLER, 'images/12/amd64/text')
  await run('xorriso', [
    '-as',
    'mkisofs',
    '-quiet',
    '-J',
    '-R',
    '-V',
    'installer',
    '-o',
    file,
    tree,
  ])
}

/** Data of 4 KiB to 64 KiB with holes of the same kind between. */
export async function fragmentedImage(file: string, size = 32 * MiB): Promise<void> {
  await writeFile(file, '')
  await truncate(file, size)
  const handle = await open(file, 'r+')
  try {
    let seed = 1
    const next = (): number => (seed = (seed * 48_271) % 2_147_483_647)
    for (let offset = 0; offset < size;) {
      const length = Math.min(4096 * (1 + (next() % 16)), size - offset)
      if (next() % 2 === 0) await handle.write(randomBytes(length), 0, length, offset)
      offset += length
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** One hole with a little data at the start, inside, and in the very last byte. */
export async function sparseImage(file: string, size = 64 * MiB + 1): Promise<void> {
  await writeFile(file, '')
  await truncate(file, size)
  const handle = await open(file, 'r+')
  try {
    for (const offset of [0, 40 * MiB + 17, size - 1]) {
      const length = Math.min(10_000, size - offset)
      await handle.write(randomBytes(length), 0, length, offset)
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
}
