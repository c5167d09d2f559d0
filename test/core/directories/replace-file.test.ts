import { readdirSync, readFileSync, statSync } from 'node:fs'
import { chown } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { replaceFile } from '../../../core/directories/replace-file.js'

t.test('a file is made for its owner alone, and replaced', async (t) => {
  const path = join(t.testdir(), 'file')
  await replaceFile(path, 'one')
  t.equal(statSync(path).mode & 0o777, 0o600)
  await replaceFile(path, 'two')
  t.equal(readFileSync(path, 'utf8'), 'two')
  t.same(readdirSync(join(path, '..')), ['file'])
})

const notRoot = process.geteuid?.() === 0 ? false : 'not root'
t.test('it stays whose it was', { skip: notRoot }, async (t) => {
  const path = join(t.testdir({ file: 'one' }), 'file')
  await chown(path, 65534, 65534)
  await replaceFile(path, 'two')
  t.match(statSync(path), { uid: 65534, gid: 65534 })
})

t.test('what fails leaves the old file, and nothing else', async (t) => {
  const dir = t.testdir({ taken: {} })
  await t.rejects(replaceFile(join(dir, 'taken'), 'x'), { code: 'EISDIR' })
  await t.rejects(replaceFile(join(dir, 'missing', 'file'), 'x'), { code: 'ENOENT' })
  t.same(readdirSync(dir), ['taken'])
})
