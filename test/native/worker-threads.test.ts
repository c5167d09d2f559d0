import { once } from 'node:events'
import { setTimeout } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { hashBlock, pread, SystemError } from '../../native/index.js'

const DOOR = JSON.stringify(new URL('../../native/index.js', import.meta.url).href)

function startWorker(body: string): Worker {
  return new Worker(
    `import(${DOOR}).then(async (native) => {
      const { parentPort } = require('node:worker_threads')
      ${body}
    })`,
    { eval: true },
  )
}

t.test('every thread has its own error class', async (t) => {
  const worker = startWorker(`
    const error = await native.pread(99_999, Buffer.alloc(1), 0).catch((error) => error)
    parentPort.postMessage([error instanceof native.SystemError, error.code])`)
  const exited = once(worker, 'exit')
  t.same(await once(worker, 'message'), [[true, 'EBADF']])
  t.same(await exited, [0])
  const error: unknown = await pread(99_999, Buffer.alloc(1), 0).catch((reason: unknown) => reason)
  t.ok(error instanceof SystemError)
})

t.test('a thread may end while calls are under way', async (t) => {
  for (let round = 0; round < 5; round++) {
    const worker = startWorker(`
      const fd = await native.reopen(await native.openPath('/dev/zero'), { write: false, direct: false })
      for (let i = 0; i < 40; i++) {
        native.pread(fd, native.allocateAligned(8 * 1024 * 1024), 0)
        native.pread(99_999, Buffer.alloc(10), 0).catch(() => {})
        native.openPath('/')
        new native.Digest('sha256').update(native.allocateAligned(8 * 1024 * 1024))
      }
      parentPort.postMessage('started')`)
    await once(worker, 'message')
    await setTimeout(round * 5)
    const code = await worker.terminate()
    t.ok(code === 0 || code === 1, 'the thread was done or made to end, and the process lives')
  }
})

t.test('digests of several threads do not mix', async (t) => {
  const block = Buffer.alloc(1_000_000, 'x')
  const wanted = (await hashBlock('blake2b', block)).toString('hex')
  const workers = Array.from({ length: 4 }, () =>
    startWorker(`
      const block = Buffer.alloc(1_000_000, 'x')
      const all = await Promise.all(Array.from({ length: 20 }, () => native.hashBlock('blake2b', block)))
      parentPort.postMessage([...new Set(all.map((digest) => digest.toString('hex')))])`),
  )
  const found = await Promise.all(workers.map(async (worker) => once(worker, 'message')))
  for (const message of found) t.strictSame(message, [[wanted]])
})
