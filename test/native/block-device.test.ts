import { join } from 'node:path'
import t from 'tap'
import {
  PAGE_SIZE,
  allocateAligned,
  blockDeviceDiscard,
  blockDeviceSectorSize,
  blockDeviceSize,
  blockDeviceZeroOut,
  dataRanges,
  fdatasync,
  pread,
  pwrite,
  status,
} from '../../native/index.js'
import {
  createFile,
  createLoopDevice,
  memoryDirectory,
  MiB,
  open,
  whyNoLoopDevices,
} from './files.js'

for (const sectorSize of [512, 4096]) {
  t.test(`a device with sectors of ${sectorSize}`, { skip: whyNoLoopDevices() }, async (t) => {
    const size = 16 * MiB
    const { device } = createLoopDevice(t, { size, sectorSize })
    const fd = await open(t, device, { write: true, direct: true })
    t.equal(await blockDeviceSize(fd), size)
    t.equal(await blockDeviceSectorSize(fd), sectorSize)

    const found = await status(fd)
    t.match(found, { type: 'block-device', size: 0 })
    t.not(found.rdev, 0)

    const ones = allocateAligned(MiB).fill(1)
    t.equal(await pwrite(fd, ones, 0), MiB)
    const back = allocateAligned(MiB)

    t.test('zeroing out changes the range and nothing else', async (t) => {
      await blockDeviceZeroOut(fd, sectorSize, 5 * sectorSize)
      await pread(fd, back, 0)
      t.equal(back.indexOf(0), sectorSize)
      t.equal(back.lastIndexOf(0), 6 * sectorSize - 1)
      const error = { code: 'EINVAL', syscall: 'ioctl(BLKZEROOUT)' }
      await t.rejects(blockDeviceZeroOut(fd, 1, sectorSize), error, 'offset not aligned')
      await t.rejects(blockDeviceZeroOut(fd, 0, size + sectorSize), error, 'beyond the end')
    })

    t.test('discarding is accepted or not supported', async (t) => {
      await fdatasync(fd)
      try {
        await blockDeviceDiscard(fd, 0, MiB)
        // A loop device punches a hole, so here the contents are known.
        await pread(fd, back, 0)
        t.ok(back.equals(Buffer.alloc(MiB)))
      } catch (error) {
        t.match(error, { code: 'EOPNOTSUPP', syscall: 'ioctl(BLKDISCARD)' })
      }
    })

    t.test('reading stops and writing fails at the end', async (t) => {
      t.equal(await pread(fd, back, size - PAGE_SIZE), PAGE_SIZE)
      t.equal(await pread(fd, back, size), 0)
      t.equal(await pwrite(fd, ones, size - PAGE_SIZE), PAGE_SIZE)
      await t.rejects(pwrite(fd, ones, size), { code: 'ENOSPC' })
    })

    t.test('unaligned direct I/O is refused', async (t) => {
      const part = ones.subarray(0, sectorSize / 2)
      await t.rejects(pwrite(fd, part, 0), { code: 'EINVAL' })
      await t.rejects(pread(fd, back, sectorSize / 2), { code: 'EINVAL' })
    })

    t.test('it cannot tell holes', async (t) => {
      await t.rejects(dataRanges(fd, 0, size, 10), { code: 'EINVAL' })
    })
  })
}

t.test('files are no devices', async (t) => {
  const path = createFile(join(memoryDirectory(t), 'image'), MiB)
  const fd = await open(t, path, { write: true })
  await t.rejects(blockDeviceSize(fd), { code: 'ENOTTY', syscall: 'ioctl(BLKGETSIZE64)' })
  await t.rejects(blockDeviceSectorSize(fd), { code: 'ENOTTY', syscall: 'ioctl(BLKSSZGET)' })
  await t.rejects(blockDeviceZeroOut(fd, 0, 512), { code: 'ENOTTY', syscall: 'ioctl(BLKZEROOUT)' })
  await t.rejects(blockDeviceDiscard(fd, 0, 512), { code: 'ENOTTY', syscall: 'ioctl(BLKDISCARD)' })
})
