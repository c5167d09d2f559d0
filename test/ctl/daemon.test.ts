import { spawn, spawnSync } from 'node:child_process'
import { readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startDaemon, ticketFields } from '../support/daemon.js'
import { until } from '../support/wait.js'

const PROGRAM = join(process.cwd(), 'bin/imageioctl')

t.test('a ticket of the real daemon is added, seen, extended and removed', async (t) => {
  const daemon = await startDaemon(t)
  const ctl = (args: string[], input = '') => {
    const options = { input, encoding: 'utf8' } as const
    const { status, stdout, stderr } = spawnSync(PROGRAM, ['-c', daemon.dir, ...args], options)
    return { status, stdout, stderr }
  }
  const ticket = ticketFields()
  const json = JSON.stringify({ ...ticket, size: 0 }).replace(
    '"size":0',
    '"size":18446744073709551616',
  )
  t.strictSame(ctl(['add', '-'], json), { status: 0, stdout: '', stderr: '' })
  t.match(ctl(['show-ticket', ticket.uuid]).stdout, '"size": 18446744073709551616')
  t.match(ctl(['modify', ticket.uuid, '--timeout', '5000']), { status: 0, stderr: '' })
  const list = ctl(['list'])
  t.match(list.stdout, /16 EiB .* (5000|4999|4998) s\n$/)
  t.notMatch(list.stdout, ticket.uuid)
  t.match(ctl(['delete', ticket.uuid]), { status: 0, stdout: '', stderr: '' })
  t.match(ctl(['show', ticket.uuid]), { status: 1, stderr: /^imageioctl: 404 [^\n]+\n$/ })
})

t.test('the launcher works through a link', async (t) => {
  const link = join(t.testdir({}), 'imageioctl')
  symlinkSync(PROGRAM, link)
  const { status, stdout } = spawnSync(link, ['--help'], { encoding: 'utf8' })
  t.equal(status, 0)
  t.match(stdout, 'Usage: imageioctl')
})

t.test('the list of processes does not show a ticket id', async (t) => {
  const daemon = await startDaemon(t)
  // Waits for its input, so that there is time to look.
  const child = spawn(PROGRAM, ['-c', daemon.dir, 'add', '-', '--'], {
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  t.teardown(() => child.kill())
  const shown = await until('the title is set', () => {
    const title = readFileSync(`/proc/${child.pid ?? 0}/cmdline`, 'latin1')
      .replaceAll('\0', ' ')
      .trim()
    return title === 'imageioctl' && title
  })
  t.equal(shown, 'imageioctl')
})
