import t from 'tap'
import { createLiveLine } from '../../start/live-line.js'
import { MiB } from '../../core/units.js'

function liveLine(isTerminal: boolean, columns = 80) {
  const written: string[] = []
  const line = createLiveLine({
    isTerminal,
    columns: () => columns,
    write: (text) => void written.push(text),
  })
  return { line, written }
}

const IDLE = { moved: 0, clients: 0, isActive: false }

t.test('on a terminal the line is redrawn in place, with rate and clients', async (t) => {
  const { line, written } = liveLine(true)
  line.update(IDLE, 0)
  line.update({ moved: 16 * MiB, clients: 1, isActive: true }, 500)
  line.update({ moved: 32 * MiB, clients: 2, isActive: true }, 1000)
  line.close()
  t.strictSame(written, [
    '\r\u001b[Kmoved 0 B, idle',
    '\r\u001b[Kmoved 16 MiB, 32 MiB/s, 1 client',
    '\r\u001b[Kmoved 32 MiB, 32 MiB/s, 2 clients',
    '\n',
  ])
})

t.test('the rate is of the last two seconds and ends with the transfer', async (t) => {
  const { line, written } = liveLine(true)
  for (let second = 0; second <= 10; second++) {
    const moved = Math.min(second, 4) * MiB
    line.update({ moved, clients: 0, isActive: second < 4 }, second * 1000)
  }
  t.match(written[3], '1 MiB/s')
  t.match(written.at(-1), 'moved 4 MiB, idle')
})

t.test('a line that stays goes above it', async (t) => {
  const terminal = liveLine(true)
  terminal.line.say('first')
  terminal.line.update(IDLE, 0)
  terminal.line.say('done')
  terminal.line.update(IDLE, 500)
  terminal.line.close()
  const live = '\r\u001b[Kmoved 0 B, idle'
  t.strictSame(terminal.written, ['first\n', live, '\r\u001b[K', 'done\n', live, '\n'])
  const pipe = liveLine(false)
  pipe.line.update(IDLE, 0)
  pipe.line.say('done')
  pipe.line.update(IDLE, 500)
  t.strictSame(pipe.written, ['moved 0 B, idle\n', 'done\n'])
})

t.test('a line never wraps', async (t) => {
  const { line, written } = liveLine(true, 20)
  line.update({ moved: 16 * MiB, clients: 1, isActive: true }, 0)
  t.equal(written[0], '\r\u001b[Kmoved 16 MiB, 0 B/s')
})

t.test('without a terminal a line is printed when something moved, and only then', async (t) => {
  const { line, written } = liveLine(false)
  for (const [ms, moved] of [0, MiB, MiB, MiB].entries()) line.update({ ...IDLE, moved }, ms * 500)
  line.close()
  t.equal(written.length, 2)
  t.match(written[1], /^moved 1 MiB, 2 MiB\/s\n$/)
})
