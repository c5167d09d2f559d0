/** Where something is measured: directories, a certificate, and what has been started there. */
import { execFileSync } from 'node:child_process'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { preparePki, type Pki } from '../start/pki.js'
import { UsageError } from './options.js'

export interface Place {
  /** The checkout. */
  readonly root: string
  /** For the files of programs. */
  readonly dir: string
  /** For images. */
  readonly store: string
  /** The file system of the store. */
  readonly kind: string
  readonly pki: Pki
  /** To be done when all is over, the last first. */
  readonly atEnd: (stop: () => Promise<void>) => void
}

/** `parent` is on the file system that is measured. Nothing is left behind. */
export async function inPlace<T>(parent: string, use: (place: Place) => Promise<T>): Promise<T> {
  const root = fileURLToPath(new URL('../..', import.meta.url))
  const dir = await mkdtemp(join(tmpdir(), 'imageio-bench-'))
  const stops: (() => Promise<void>)[] = [() => rm(dir, { recursive: true, force: true })]
  try {
    const store = await mkdtemp(join(parent, 'imageio-bench-')).catch((cause: unknown) => {
      throw new UsageError(`--store ${parent}: no directory to write to`, { cause })
    })
    stops.push(() => rm(store, { recursive: true, force: true }))
    await chmod(store, 0o755)
    const caDir = join(root, '.dev', 'pki')
    const pki = await preparePki({ caDir, runDir: dir, name: 'localhost' })
    const atEnd = (stop: () => Promise<void>): void => void stops.push(stop)
    return await use({ root, dir, store, kind: fileSystem(store), pki, atEnd })
  } finally {
    for (const stop of stops.reverse()) await stop()
  }
}

function fileSystem(path: string): string {
  return execFileSync('stat', ['-f', '-c', '%T', path], { encoding: 'utf8' })
    .trim()
    .replace('ext2/ext3', 'ext4')
}
