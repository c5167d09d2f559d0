import { spawn, spawnSync } from 'node:child_process'
import { readFileSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createLog, shortId, type LogFormat, type LogSettings } from '../../core/log.js'

const MODULE = new URL('../../core/log.js', import.meta.url).href

function fileSettings(path: string, over: Partial<Rotation> = {}): LogSettings {
  const { maxBytes = 0, backupCount = 0, format = 'json' } = over
  return { level: 'info', format, destination: { kind: 'file', path, maxBytes, backupCount } }
}
interface Rotation {
  maxBytes: number
  backupCount: number
  format: LogFormat
}

function inDir(t: Test): string {
  return join(t.testdir({}), 'daemon.log')
}

function readLines(path: string): Record<string, unknown>[] {
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n')
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>)
}

/** What a process that runs `script` writes to standard error. */
function stderrOf(script: string): string {
  const source = `import { createLog } from ${JSON.stringify(MODULE)}\n${script}`
  const { stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', source], {
    encoding: 'utf8',
  })
  return stderr
}

t.test(
  'a line of the file is JSON with an ISO time, the level as a word and the fields',
  async (t) => {
    const path = inDir(t)
    const log = createLog(fileSettings(path))
    log.logger.info({ ticket: 'abcdefgh…', size: 4096 }, 'added')
    log.logger.debug('not logged')
    await log.close()
    const [line, ...rest] = readLines(path)
    t.match(line, {
      level: 'info',
      ticket: 'abcdefgh…',
      size: 4096,
      msg: 'added',
      pid: process.pid,
    })
    t.match(line?.['time'], /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    t.strictSame(rest, [])
  },
)

t.test('a pretty line has the time with comma and milliseconds, and the fields', async (t) => {
  const path = inDir(t)
  const log = createLog(fileSettings(path, { format: 'pretty' }))
  log.logger.warn({ op: 'read' }, 'slow')
  await log.close()
  const text = readFileSync(path, 'utf8')
  t.match(text, /^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\] WARN: slow \{"op":"read"\}\n$/)
})

t.test('the file is appended to and readable by owner and group only', async (t) => {
  const path = inDir(t)
  for (const message of ['one', 'two']) {
    const log = createLog(fileSettings(path))
    log.logger.info(message)
    await log.close()
  }
  t.match(readLines(path), [{ msg: 'one' }, { msg: 'two' }])
  t.equal(statSync(path).mode & 0o137, 0)
})

t.test('a changed level reaches children that exist already', async (t) => {
  const path = inDir(t)
  const log = createLog(fileSettings(path))
  const child = log.logger.child({ service: 'images' })
  const grandchild = child.child({ reqId: 1 }, { level: child.level })
  log.setLevel('debug')
  for (const logger of [log.logger, child, grandchild]) logger.debug('now')
  log.setLevel('error')
  for (const logger of [log.logger, child, grandchild]) logger.warn('not any more')
  await log.close()
  t.match(readLines(path), [{ msg: 'now' }, { service: 'images' }, { service: 'images', reqId: 1 }])
  t.equal(readLines(path).length, 3)
})

t.test('a full file becomes .1, and no more old files are kept than configured', async (t) => {
  const path = inDir(t)
  const log = createLog(fileSettings(path, { maxBytes: 1000, backupCount: 2 }))
  for (let n = 0; n < 60; n++) log.logger.info({ n }, 'x'.repeat(100))
  await log.close()
  const kept = [`${path}.2`, `${path}.1`, path].filter((file) => statSync(file).size > 0)
  const numbers = kept.flatMap(readLines).map((line) => line['n'])
  t.strictSame(
    numbers,
    Array.from({ length: numbers.length }, (_, i) => 60 - numbers.length + i),
  )
  t.ok(numbers.length >= 10)
  t.throws(() => statSync(`${path}.3`), { code: 'ENOENT' })
  t.strictSame(log.files, [path, `${path}.1`, `${path}.2`])
})

t.test('without a size or without old files the file grows', async (t) => {
  for (const rotation of [
    { maxBytes: 100, backupCount: 0 },
    { maxBytes: 0, backupCount: 5 },
  ]) {
    const path = inDir(t)
    const log = createLog(fileSettings(path, rotation))
    for (let n = 0; n < 20; n++) log.logger.info({ n }, 'x'.repeat(100))
    await log.close()
    t.equal(readLines(path).length, 20)
  }
})

t.test('reopen writes to a new file after somebody moved the old one', async (t) => {
  const path = inDir(t)
  const log = createLog(fileSettings(path))
  log.logger.info('before')
  await waitFor(() => statSync(path).size > 0)
  renameSync(path, `${path}.moved`)
  log.reopen()
  log.logger.info('after')
  await log.close()
  t.match(readLines(`${path}.moved`), [{ msg: 'before' }])
  t.match(readLines(path), [{ msg: 'after' }])
})

t.test('a file that cannot be written is an error at once', async (t) => {
  const dir = t.testdir({ directory: {}, file: '' })
  const refused = (path: string, message: RegExp): void => {
    t.throws(() => createLog(fileSettings(path)), { message }, path)
  }
  refused(join(dir, 'missing', 'x.log'), /^cannot write the log file .*missing\/x.log: ENOENT/)
  refused(join(dir, 'directory'), /: EISDIR/)
  refused(join(dir, 'file', 'x.log'), /: ENOTDIR/)
  refused('/dev/null', /: not a regular file$/)
  spawnSync('mkfifo', [join(dir, 'fifo')])
  refused(join(dir, 'fifo'), /: ENXIO/)
})

t.test(
  'lines go to standard error when the file fails later, and the process goes on',
  async (t) => {
    const path = inDir(t)
    const stderr = stderrOf(`
    import { rmSync, mkdirSync } from 'node:fs'
    const log = createLog(${JSON.stringify(fileSettings(path))})
    log.logger.info('in the file')
    setTimeout(() => {
      rmSync(${JSON.stringify(path)})
      mkdirSync(${JSON.stringify(path)})
      log.reopen()
    }, 50)
    setTimeout(async () => {
      log.logger.info('on stderr')
      await log.close()
    }, 150)
  `)
    t.match(stderr, /^log file .*daemon\.log: .*not a file/)
    t.match(stderr, /"msg":"on stderr"/)
    t.notMatch(stderr, 'in the file')
  },
)

t.test('after close lines still reach standard error', async (t) => {
  const settings = JSON.stringify(fileSettings(inDir(t)))
  const script = `const log = createLog(${settings}); await log.close(); log.logger.error('last')`
  t.match(stderrOf(script), /"msg":"last"/)
})

t.test(
  'standard error gets JSON when it is no terminal, and all lines before an exit',
  async (t) => {
    const settings = `{ level: 'info', format: 'auto', destination: { kind: 'stderr' } }`
    const script = `createLog(${settings}).logger.info('last words'); process.exit(1)`
    t.match(JSON.parse(stderrOf(script)), { level: 'info', msg: 'last words' })
  },
)

t.test('standard error that nobody reads does not stop the process', async (t) => {
  const script = `
    import { createLog } from ${JSON.stringify(MODULE)}
    const log = createLog({ level: 'info', format: 'pretty', destination: { kind: 'stderr' } })
    process.stdin.on('end', () => {
      for (let n = 0; n < 100; n++) log.logger.info('x'.repeat(1000))
      setTimeout(() => process.exit(7), 50)
    }).resume()
  `
  const child = spawn(process.execPath, ['--input-type=module', '-e', script])
  child.stderr.destroy()
  child.stdin.end()
  const code = await new Promise((resolve) => child.on('exit', resolve))
  t.equal(code, 7)
})

t.test('an id is shortened to eight characters, or a third of a short one', async (t) => {
  t.equal(shortId('12345678-1234-1234-1234-123456789abc'), '12345678…')
  t.equal(shortId('secret'), 'se…')
  t.equal(shortId('x'), '…')
  t.equal(shortId(''), '…')
})

async function waitFor(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5))
}
