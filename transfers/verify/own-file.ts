/** That a volume is a file of its own, before anybody is let in to write or read what has its name. */
import { ImageRefused } from './image-file.js'

interface FileStatus {
  readonly nlink: number | bigint
  isFile(): boolean
}

/**
 * `found` is of the name itself, never of what a link leads to. A second name is as good as a link: it
 * may be that of another disk, or of a file that is none. Throws ImageRefused.
 */
export function checkOwnFile(found: FileStatus): void {
  if (!found.isFile()) throw new ImageRefused('the volume is no regular file')
  if (found.nlink > 1) {
    throw new ImageRefused(`the file of the volume has ${found.nlink} names: it is a hard link`)
  }
}
