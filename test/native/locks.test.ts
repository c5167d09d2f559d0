import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { spawn } from 'node:child_process'
import t from 'tap'
import { isLocked } from '../../native/index.js'
import { without } from '../support/tools.js'
import { until } from '../support/wait.js'

t.test('a file that nobody has locked', async (t) => {
  const file = await open(join(t.testdir({ file: '' }), 'file'))
  t.teardown(() => file.close())
  t.equal(await isLocked(file.fd, 0, 1), false)
  t.equal(await isLocked(file.fd, 2 ** 52, 1), false)
})

t.test('what another process has locked, byte by byte', { skip: without('qemu-io') }, async (t) => {
  const path = join(t.testdir({ file: 'x'.repeat(512) }), 'file')
  const file = await open(path)
  t.teardown(() => file.close())
  const child = spawn('qemu-io', ['-f', 'raw', path], { stdio: ['pipe', 'ignore', 'ignore'] })
  t.teardown(() => child.kill())
  await until('it is locked', () => isLocked(file.fd, 101, 1))
  t.equal(await isLocked(file.fd, 0, 100), false, 'not before')
  t.equal(await isLocked(file.fd, 50, 100), true, 'inside of what is asked for')
  child.stdin.end('quit\n')
  await until('it is free', async () => !(await isLocked(file.fd, 101, 1)))
})

t.test('arguments are checked, and errors told', async (t) => {
  t.throws(() => isLocked(0, 0, 0), RangeError)
  t.throws(() => isLocked(0, -1, 1), { name: /Error/ })
  const file = await open(join(t.testdir({ file: '' }), 'file'))
  const { fd } = file
  await file.close()
  await t.rejects(isLocked(fd, 0, 1), { code: 'EBADF', syscall: 'fcntl(F_OFD_GETLK)' })
})
