/** The images to be served: those the user named, or the sample. */
import { join } from 'node:path'
import { chooseFormat } from './format.js'
import { readGuestData } from './guest-data.js'
import { inspectImage, type Image } from './image.js'
import type { StartOptions } from './options.js'
import { makeSample } from './sample.js'
import { StartError } from './start-error.js'

/** Throws StartError. */
export async function givenImages(options: StartOptions): Promise<Image[]> {
  return Promise.all(options.images.map((path) => givenImage(path, options)))
}

async function givenImage(path: string, options: StartOptions): Promise<Image> {
  const { isSparse, isWritable, bitmap } = options
  const size = await inspectImage(path, isWritable)
  const { format, header } = options.format
    ? { format: options.format, header: undefined }
    : await chooseFormat(path, size)
  if (format !== 'raw') {
    const guest = await readGuestData(path, format, { isWritable, bitmap })
    return { path, size: guest.size, isSparse, isWritable, guest }
  }
  if (bitmap !== undefined) {
    throw new StartError(
      `${path}: --bitmap is for qcow2 images, and its name does not say it is one; --format qcow2 does`,
    )
  }
  return { path, size, isSparse, isWritable, ...(header && { header }) }
}

/** Each run has its own: two that wrote to the same one would disturb each other. */
export async function sampleImage(runDir: string): Promise<Image> {
  const path = join(runDir, 'sample.img')
  await makeSample(path)
  // Nobody else's data: uploads and zeroing can be tried at once.
  const size = await inspectImage(path, true)
  return { path, size, isSparse: true, isWritable: true, isSample: true }
}
