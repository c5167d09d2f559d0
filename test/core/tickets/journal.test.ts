/** What a process knows of changes is known to the next one, wherever the first was killed. */
import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Journals } from '../../../core/tickets/journal.js'
import { Unfinished } from '../../../core/tickets/unfinished.js'
import { recordingLogger } from '../http/exchanges.js'

const ID = 'a ticket'

/** A process that is killed closes nothing. */
function processOn(dir: string, mustEmpty = false): Unfinished {
  const { logger } = recordingLogger()
  return new Unfinished({ journal: new Journals(dir, logger).open(ID), mustEmpty })
}

const ranges = (unfinished: Unfinished) => unfinished.ranges(64)

function start(t: Test): { readonly dir: string; readonly file: () => string } {
  const dir = join(t.testdir(), 'run', 'changes')
  return { dir, file: () => join(dir, readdirSync(dir)[0]!) }
}

t.test('what was announced and not written is known', async (t) => {
  const { dir, file } = start(t)
  const first = processOn(dir)
  first.begin(0, 100)
  first.begin(200, 100)
  first.wrote(0, 10)
  first.wrote(10, 40)
  first.wrote(200, 100)
  // Of what is under way the last bytes are told when something else happens.
  t.same(ranges(processOn(dir)), [
    [50, 50],
    [200, 100],
  ])
  const second = processOn(dir)
  const change = second.begin(50, 50)
  second.wrote(50, 50)
  second.succeed(change, 100)
  t.same(ranges(processOn(dir)), [[200, 100]])
  t.notOk(file().includes(ID), 'a name that tells nothing')
  t.equal(statSync(dir).mode & 0o777, 0o700)
  t.equal(statSync(file()).mode & 0o777, 0o600)
})

t.test('that writes were lost is known whatever comes after', async (t) => {
  const { dir } = start(t)
  const first = processOn(dir, true)
  first.noteLost()
  first.noteEmptied()
  const change = first.begin(0, 100)
  first.wrote(0, 100)
  first.succeed(change, 100)
  const second = processOn(dir)
  t.match(second, { isLost: true, mustEmpty: false, total: 0 })
  second.begin(50, 50)
  t.match(processOn(dir), { isLost: true, total: 50 })
})

t.test('a change that failed or was done leaves what it leaves', async (t) => {
  const { dir } = start(t)
  const first = processOn(dir)
  const failed = first.begin(0, 100)
  first.wrote(0, 30)
  first.fail(failed)
  const ended = first.begin(500, 100)
  first.end(ended)
  const chunked = first.begin(200, 300)
  first.wrote(200, 50)
  first.succeed(chunked, 250)
  t.same(ranges(first), [[30, 70]])
  first.lack(10, 5)
  t.same(ranges(processOn(dir)), [
    [10, 5],
    [30, 70],
  ])
})

t.test('nothing is left of many small changes', async (t) => {
  const { dir, file } = start(t)
  const first = processOn(dir)
  for (let offset = 0; offset < 1000; offset++) {
    const change = first.begin(offset, 1)
    first.wrote(offset, 1)
    first.succeed(change, offset + 1)
  }
  t.ok(statSync(file()).size < 100)
  t.same(ranges(processOn(dir)), [])
})

t.test('a long change keeps the file short', async (t) => {
  const { dir, file } = start(t)
  const first = processOn(dir)
  first.lack(2 ** 50, 1)
  first.begin(0, 2 ** 44)
  let largest = 0
  for (let piece = 0; piece < 20_000; piece++) {
    const other = first.begin(2 ** 45 + piece, 1)
    first.wrote(piece * 2 ** 20, 2 ** 20)
    first.wrote(2 ** 45 + piece, 1)
    first.succeed(other, 0)
    largest = Math.max(largest, statSync(file()).size)
  }
  t.ok(largest < 300_000, String(largest))
  t.same(ranges(processOn(dir)), [
    [20_000 * 2 ** 20, 2 ** 44 - 20_000 * 2 ** 20],
    [2 ** 50, 1],
  ])
})

t.test('whether the image is still to be emptied', async (t) => {
  const { dir } = start(t)
  t.equal(processOn(dir, true).mustEmpty, true)
  const second = processOn(dir, false)
  t.equal(second.mustEmpty, true, 'though nobody says so any more')
  second.begin(0, 10)
  t.equal(processOn(dir).mustEmpty, true)
  second.noteEmptied()
  const third = processOn(dir, true)
  t.equal(third.mustEmpty, false, 'though somebody says so again')
  t.same(ranges(third), [[0, 10]])
})

t.test('bodies of unknown size begin again, or end where they were cut off', async (t) => {
  const { dir } = start(t)
  const first = processOn(dir)
  const cut = first.begin(0, 1000, { isUnsized: true })
  first.wrote(0, 100)
  t.same(ranges(processOn(dir)), [[0, 1]], 'killed in the middle')
  first.lackMore(100)
  first.end(cut)
  const second = processOn(dir)
  t.same(ranges(second), [[100, 1]])
  const again = second.begin(0, 1000, { isUnsized: true })
  second.wrote(0, 100)
  second.succeed(again, 100)
  t.same(ranges(second), [], 'it had no more')
  t.same(ranges(processOn(dir)), [])
})

t.test('what was being written when the process ended does not count', async (t) => {
  const { dir, file } = start(t)
  processOn(dir).begin(0, 10)
  appendFileSync(file(), '+10')
  const second = processOn(dir)
  t.same(ranges(second), [[0, 10]])
  second.begin(20, 10)
  t.same(ranges(processOn(dir)), [
    [0, 10],
    [20, 10],
  ])
})

t.test('a ticket that was removed for good, and was whole, is known as that', async (t) => {
  const { dir, file } = start(t)
  const { logger } = recordingLogger()
  const journals = new Journals(dir, logger)
  journals.remove(ID, true)
  t.notOk(existsSync(dir), 'nothing was known of it')
  processOn(dir)
  t.notOk(journals.isRemoved(ID))
  journals.remove(ID, true)
  t.ok(journals.isRemoved(ID))
  t.equal(journals.look(ID), undefined)
  journals.remove(ID, true)
  t.ok(new Journals(dir, logger).isRemoved(ID), 'again')
  t.equal(statSync(file()).mode & 0o777, 0o600)
  journals.forgetOld(Date.now() + 23 * 3600 * 1000)
  t.ok(journals.isRemoved(ID))
  journals.forgetOld(Date.now() + 25 * 3600 * 1000)
  t.notOk(journals.isRemoved(ID), 'for a day')
  processOn(dir)
  journals.remove(ID, true)
  journals.remove(ID, false)
  t.same(readdirSync(dir), [])
})

t.test('what is no journal is none', async (t) => {
  const { dir, file } = start(t)
  const { logger } = recordingLogger()
  const look = () => new Journals(dir, logger).look(ID)
  processOn(dir).begin(0, 10)
  t.match(look(), { announced: [{ start: 0, end: 10 }] })
  const path = file()
  const good = readFileSync(path, 'utf8')
  for (const text of ['', 'something else\n', good + '\0\n', good + '+a 1\n', good + '+1\n']) {
    writeFileSync(path, text)
    t.equal(look(), undefined, text)
  }
  rmSync(path)
  mkdirSync(path)
  t.equal(look(), undefined, 'a directory')
  new Journals(dir, logger).remove(ID, false)
  t.notOk(existsSync(path))
  execFileSync('mkfifo', [path])
  t.equal(look(), undefined, 'a FIFO')
  t.same(ranges(processOn(dir)), [])
  t.match(look(), { announced: [] })
})

t.test('files that nobody asks for go', async (t) => {
  const { dir, file } = start(t)
  const { logger } = recordingLogger()
  const journals = new Journals(dir, logger)
  journals.forgetOld()
  new Unfinished({ journal: journals.open(ID) })
  const old = Date.now() / 1000 - 8 * 24 * 3600
  utimesSync(file(), old, old)
  journals.forgetOld()
  t.ok(existsSync(file()), 'not that of a ticket')
  journals.leave(ID)
  journals.forgetOld()
  t.same(readdirSync(dir), [])
})

t.test('where nothing can be recorded it is said, and all goes on', async (t) => {
  const { dir } = start(t)
  const { logger, lines } = recordingLogger()
  writeFileSync(join(dir, '..', '..', 'file'), '')
  const journals = new Journals(join(dir, '..', '..', 'file', 'x'), logger)
  t.equal(journals.open(ID), undefined)
  t.match(lines, [{ level: 50, msg: /cannot be recorded/ }])
  t.equal(journals.look(ID), undefined)
})

t.test('a record that cannot be kept up is removed', async (t) => {
  const { dir, file } = start(t)
  const first = processOn(dir)
  const path = file()
  mkdirSync(`${path}.new`)
  first.noteEmptied()
  t.notOk(existsSync(path), 'it would be wrong')
  t.notOk(existsSync(`${path}.new`))
  first.fail(first.begin(0, 10))
  t.same(ranges(first), [[0, 10]], 'who is asked now still knows')
})
