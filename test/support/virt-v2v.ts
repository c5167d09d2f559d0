/**
 * The Python programs that virt-v2v carries inside of itself for `-o rhv-upload`. They are taken from the
 * installed program when a test runs: their licence is not ours.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { without } from './tools.js'

const PROGRAM = '/usr/bin/virt-v2v'

/** How each begins, behind a line that says that it is Python. */
const TITLES = {
  plugin: 'upload nbdkit plugin',
  precheck: 'pre-upload checks',
  vmcheck: 'VM existence check',
  transfer: 'upload start transfer',
  finalize: 'upload finalize',
  createvm: 'upload create VM',
  cancel: 'upload cancel',
} as const

export type ScriptName = keyof typeof TITLES

/** For `skip`. */
export function withoutVirtV2v(...programs: string[]): string | false {
  if (!existsSync(PROGRAM)) return 'virt-v2v is not installed'
  const missing = without('nbdkit', 'nbdcopy', 'qemu-img', 'qemu-nbd', ...programs)
  if (missing !== false) return missing
  try {
    execFileSync('nbdkit', ['--dump-plugin', 'python'], { stdio: 'ignore' })
    find('plugin')
    return false
  } catch (error) {
    return error instanceof NotThere ? error.message : 'nbdkit-plugin-python is not installed'
  }
}

class NotThere extends Error {}

/** Writes the script into a file of the directory. */
export function extract(name: ScriptName, dir: string): string {
  const file = join(dir, `${name}.py`)
  writeFileSync(file, find(name))
  return file
}

function find(name: ScriptName): Buffer {
  const program = readFileSync(PROGRAM)
  const start = program.indexOf(`# -*- python -*-\n# oVirt or RHV ${TITLES[name]} used by`)
  if (start < 0) throw new NotThere(`this virt-v2v has no script for ${TITLES[name]}`)
  return program.subarray(start, program.indexOf(0, start))
}
