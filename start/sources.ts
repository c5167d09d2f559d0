/** Where the daemon finds the bytes of each image: in its file, or at a qemu-nbd started for it. */
import type { Child } from './child.js'
import { hasGuest, type Image } from './image.js'
import { startQemuNbd, type QemuNbdOptions } from './qemu-nbd.js'
import { StartError } from './start-error.js'

export interface Source {
  readonly image: Image
  /** For a ticket. */
  readonly url: string
  /** Rejects when the server that has it dies; a file has none. */
  readonly died?: Promise<never>
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
      sources.push({ image, url: server.url, died: server.died })
    } else {
      sources.push({ image, url: `file://${image.path}` })
    }
  }
  return sources
}

/**
 * One that dies takes its image along and no other, which may be half downloaded: that is told to `warn`.
 * Rejects with the last image's end if it is `mayEnd`, which there is nothing to serve behind.
 */
export async function watchSources(
  sources: readonly Source[],
  { mayEnd, warn }: { readonly mayEnd: boolean; readonly warn: (text: string) => void },
): Promise<never> {
  let left = sources.length
  const never = new Promise<never>(() => undefined)
  const watched = sources.map(({ died = never }) =>
    died.catch((error: unknown) => {
      left--
      if (!(error instanceof StartError) || (left === 0 && mayEnd)) throw error
      warn(`imageio: ${error.message}\nimageio: everything else goes on\n`)
      return never
    }),
  )
  await Promise.all([never, ...watched])
  return never
}
