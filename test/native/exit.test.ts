/** The end of a process that does not wait for anything. */
import { spawnSync } from 'node:child_process'
import t from 'tap'
import { exit } from '../../native/index.js'

const INDEX = new URL('../../native/index.js', import.meta.url).href

t.test('the process ends with the status, whatever waits for its end', async (t) => {
  for (const status of [0, 7, 255]) {
    const script = `
      import { exit } from ${JSON.stringify(INDEX)}
      process.on('exit', () => { for (;;); })
      setInterval(() => undefined, 1000)
      process.stdout.write('last words')
      exit(${status})`
    const args = ['--input-type=module', '--eval', script]
    const ended = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 20_000 })
    t.equal(ended.signal, null)
    t.equal(ended.status, status)
    t.equal(ended.stdout, 'last words')
  }
})

t.test('a status has eight bits', async (t) => {
  t.throws(() => exit(256), { name: 'RangeError', message: /status/ })
})
