import { join } from 'node:path'
import t, { type Test } from 'tap'
import { loadConfig } from '../../../../core/config/load.js'
import {
  checkSignedTickets,
  signedTicketsSchema,
  splitAudience,
} from '../../../../core/tickets/signed/config.js'

function load(t: Test, text: string) {
  const dir = t.testdir({ 'conf.d': { 'a.conf': `[signed_tickets]\n${text}` } })
  const check = checkSignedTickets
  return loadConfig(signedTicketsSchema, { dir, vendorDir: join(dir, 'vendor'), check })
}

const COMPLETE =
  'enable = on\nkeys = /keys\naudience = host\nrevocations_file = /state/revocations\n'

t.test('they are off, and nothing is asked for then', async (t) => {
  const { config, warnings } = load(t, '')
  t.equal(config.signed_tickets.enable, false)
  t.strictSame(warnings, [])
})

t.test('keys and audience are required while they are on', async (t) => {
  t.strictSame(load(t, COMPLETE).warnings, [])
  t.throws(() => load(t, 'enable = on\naudience = host\n'), { message: /keys: must name/ })
  t.throws(() => load(t, 'enable = on\nkeys = /keys\n'), { message: /audience: must name/ })
  t.throws(() => load(t, 'enable = on\nkeys = /keys\naudience = , ,\n'), { message: /audience/ })
})

t.test('revocations that a restart forgets are a warning', async (t) => {
  const { warnings } = load(t, 'enable = on\nkeys = /keys\naudience = host\n')
  t.match(warnings, [/revocations_file: is empty, so a restart forgets revocations$/])
})

t.test('paths are absolute, numbers in their range', async (t) => {
  for (const line of [
    'keys = keys',
    'revocations_file = ../x',
    'max_lifetime = 0',
    'max_tickets = 0',
    'clock_tolerance = -1',
    'clock_tolerance = 301',
  ]) {
    t.throws(
      () =>
        load(t, `${COMPLETE.replace(new RegExp(`^${line.split(' ')[0]} .*\n`, 'm'), '')}${line}\n`),
      { code: 'ERR_CONFIG' },
      line,
    )
  }
})

t.test('an audience is one name or several', async (t) => {
  t.strictSame(splitAudience('host'), ['host'])
  t.strictSame(splitAudience(' host , site,, '), ['host', 'site'])
})
