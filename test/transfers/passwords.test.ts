/** The password file: made, changed, read again, and never shown. */
import t from 'tap'
import { readFileSync, statSync, writeFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { passwd } from '../../transfers/passwd.js'
import { parsePasswords, PasswordFile, setPassword } from '../../transfers/password-file.js'

t.test('users are added and changed, the file is its owner’s alone', async (t) => {
  const dir = t.testdir()
  const file = join(dir, 'passwords')
  await setPassword(file, 'admin@internal', 'secret')
  await setPassword(file, 'other', 'pässword:with colon')
  const users = new PasswordFile(file)
  t.equal(await users.verify('admin@internal', 'secret'), true)
  t.equal(await users.verify('admin@internal', 'Secret'), false)
  t.equal(await users.verify('other', 'pässword:with colon'.normalize('NFD')), true)
  t.equal(await users.verify('nobody', 'secret'), false)
  t.equal(await users.verify('', ''), false)
  const version = await users.version()
  await setPassword(file, 'admin@internal', 'new')
  t.not(await users.version(), version)
  t.equal(await users.verify('admin@internal', 'secret'), false)
  t.equal(await users.verify('admin@internal', 'new'), true)
  t.equal(statSync(file).mode & 0o777, 0o600)
  t.strictSame(readdirSync(dir), ['passwords'])
  t.notMatch(readFileSync(file, 'utf8'), /secret|new$/m)
  t.equal(parsePasswords(readFileSync(file, 'utf8')).size, 2)
})

t.test('what is no password file is neither used nor overwritten', async (t) => {
  const file = join(t.testdir({ f: 'important data\n' }), 'f')
  await t.rejects(setPassword(file, 'a', 'b'), /line 1/)
  t.equal(readFileSync(file, 'utf8'), 'important data\n')
  await t.rejects(new PasswordFile(file).verify('a', 'b'), {
    message: `${file}: line 1 is not USER:HASH: mend or remove it`,
  })
  await t.rejects(setPassword(join(file, '..', 'none', 'f'), 'a', 'b'), {
    message: /^the directory .*none does not exist: make it, or mend \[transfers\] password_file$/,
  })
  writeFileSync(file, '# comment\n\n')
  t.equal(await new PasswordFile(file).verify('a', 'b'), false)
  for (const user of ['', 'a:b', 'a\nb', ' a', '#a']) {
    await t.rejects(setPassword(file, user, 'p'), /user name/)
  }
  await t.rejects(setPassword(file, 'a', ''), /empty/)
})

t.test('before the first password is set nobody can log in', async (t) => {
  const file = join(t.testdir(), 'f')
  const users = new PasswordFile(file)
  const version = await users.version()
  t.equal(await users.verify('a', 'b'), false)
  await setPassword(file, 'a', 'b')
  t.not(await users.version(), version)
  t.equal(await users.verify('a', 'b'), true)
})

t.test('passwd takes the first line of standard input', async (t) => {
  const file = join(t.testdir(), 'f')
  const io = { stdin: Readable.from(['sec', 'ret\r\nmore\n']), printError: () => t.fail('silent') }
  await passwd(file, 'u', io)
  t.equal(await new PasswordFile(file).verify('u', 'secret'), true)
  await t.rejects(passwd(file, 'u', { ...io, stdin: Readable.from([]) }), /empty/)
  const long = { ...io, stdin: Readable.from(['x'.repeat(5000)]) }
  await t.rejects(passwd(file, 'u', long), /too long/)
})

t.test('at a terminal it asks twice, shows nothing, and can be edited', async (t) => {
  const file = join(t.testdir(), 'f')
  const raw: boolean[] = []
  const terminal = (): PassThrough =>
    Object.assign(new PassThrough(), {
      isTTY: true,
      setRawMode: (isRaw: boolean) => void raw.push(isRaw),
    })
  const said: string[] = []
  const ask = async (first: string, second: string): Promise<void> => {
    const stdin = terminal()
    const done = passwd(file, 'u', {
      stdin,
      printError: (text) => {
        said.push(text)
        if (text.startsWith('New')) setImmediate(() => stdin.write(first))
        if (text === 'Again: ') setImmediate(() => stdin.write(second))
      },
    })
    await done
  }
  await ask('xx\u0015secrt\u007fet\r', 'secret\n')
  t.equal(await new PasswordFile(file).verify('u', 'secret'), true)
  t.strictSame(said, ['New password of u: ', '\n', 'Again: ', '\n'])
  t.strictSame(raw, [true, false, true, false])
  await t.rejects(ask('a\r', 'b\r'), /differ/)
  await t.rejects(ask('a\u0003', ''), /interrupted/)
  t.equal(raw.at(-1), false, 'the terminal is as it was')
})
