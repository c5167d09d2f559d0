import { memoryUsage } from 'node:process'
import { setTimeout } from 'node:timers/promises'
import { runInNewContext } from 'node:vm'
import { setFlagsFromString } from 'node:v8'
import t from 'tap'
import { PAGE_SIZE, allocateAligned, isAligned, pread } from '../../native/index.js'
import { MiB, open } from './files.js'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

t.test('memory is aligned, zeroed and writable to its last byte', async (t) => {
  for (const size of [1, 511, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, MiB]) {
    const buffer = allocateAligned(size)
    t.ok(Buffer.isBuffer(buffer))
    t.equal(buffer.length, size)
    t.ok(isAligned(buffer, PAGE_SIZE))
    t.ok(buffer.every((byte) => byte === 0))
    buffer[size - 1] = 1
  }
})

t.test('alignment of parts', async (t) => {
  const buffer = allocateAligned(PAGE_SIZE)
  t.ok(isAligned(buffer.subarray(512), 512))
  t.notOk(isAligned(buffer.subarray(512), 1024))
  t.notOk(isAligned(buffer.subarray(1), 2))
  t.ok(isAligned(buffer.subarray(1), 1))
  t.ok(isAligned(Buffer.alloc(0), 4096))
})

t.test('V8 counts the memory, and it is given back', async (t) => {
  const size = 64 * MiB
  collectGarbage()
  const before = memoryUsage().external
  ;(() => {
    const buffers = [allocateAligned(size), allocateAligned(size)]
    for (const buffer of buffers) buffer.fill(1)
    // Less a little, since buffers of earlier tests may go meanwhile.
    t.ok(memoryUsage().external > before + 2 * size - 8 * MiB)
    t.ok(memoryUsage.rss() >= 2 * size)
  })()
  for (let round = 0; round < 50 && memoryUsage().external >= before + size; round++) {
    collectGarbage()
    await setTimeout(10)
  }
  t.ok(memoryUsage().external < before + size)
})

t.test('a buffer lives as long as the call that uses it', async (t) => {
  const fd = await open(t, '/dev/zero')
  const reads = Array.from({ length: 16 }, () => pread(fd, allocateAligned(4 * MiB), 0))
  for (let round = 0; round < 10; round++) {
    collectGarbage()
    await setTimeout(1)
  }
  for (const size of await Promise.all(reads)) t.equal(size, 4 * MiB)
})

t.test('more than there is address space for is ENOMEM', async (t) => {
  t.throws(() => allocateAligned(Number.MAX_SAFE_INTEGER), {
    name: 'SystemError',
    code: 'ENOMEM',
    syscall: 'mmap',
  })
})
