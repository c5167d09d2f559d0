/** Where the daemon finds the bytes of each image: in its file, or at a qemu-nbd started for it. */
import type { Child } from './child.js'
import { hasGuest, type Image } from './image.js'
import { startQemuNbd, type QemuNbdOptions } from './qemu-nbd.js'

export interface Source {
  readonly image: Image
  /** For a ticket. */
  readonly url: string
}

/** Servers are added to `children` as they start, so that they are stopped when a later one does not. */
export async function openSources(
  images: readonly Image[],
  wishes: Omit<QemuNbdOptions, 'image' | 'name'>,
  children: Child[],
): Promise<Source[]> {
  const sources: Source[] = []
  for (const [index, image] of images.entries()) {
    if (hasGuest(image)) {
      const server = await startQemuNbd({ ...wishes, image, name: `nbd-${index}` })
      children.push(server)
      sources.push({ image, url: server.url })
    } else {
      sources.push({ image, url: `file://${image.path}` })
    }
  }
  return sources
}
