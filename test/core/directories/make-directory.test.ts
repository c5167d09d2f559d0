import { statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { makeDirectory } from '../../../core/directories/make-directory.js'
import { within } from '../../support/wait.js'

t.test('a directory is made with those above it, once', async (t) => {
  const dir = t.testdir({ file: '' })
  const path = join(dir, 'a', 'b')
  t.equal(await makeDirectory(path), true)
  t.equal(statSync(join(dir, 'a')).mode & 0o777, 0o700)
  t.equal(await makeDirectory(path), false)
  await t.rejects(makeDirectory(join(dir, 'file')), { code: 'EEXIST' })
  await t.rejects(makeDirectory(join(dir, 'file', 'a')), { code: 'EEXIST' })
})

t.test('where the kernel makes none it ends', async (t) => {
  await t.rejects(within('an answer', 20_000, makeDirectory('/proc/x/y')), { code: 'ENOENT' })
})
