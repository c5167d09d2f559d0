/** Whether two paths lead to one directory. */
import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'

/** The same through symbolic links and other mounts. One that is not there yet is known by its path. */
export async function directoryIdentity(path: string): Promise<string> {
  try {
    const { dev, ino } = await stat(path, { bigint: true })
    return `${dev}:${ino}`
  } catch {
    return resolve(path)
  }
}
