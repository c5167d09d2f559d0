/** docs/transfers.md: its table is the schema. */
import { readFileSync } from 'node:fs'
import t from 'tap'
import { loadTransfersConfig } from '../../transfers/config.js'
import { allOptions } from '../../transfers/options.js'

const page = readFileSync('docs/transfers.md', 'utf8')

t.test('the table has every option with its default, and no other', async (t) => {
  const text = '[tls]\nenable = no\n'
  const dir = t.testdir({ 'conf.d': { 'a.conf': text } })
  const { transfers } = loadTransfersConfig(dir, '/nonexistent').config
  const defaults = Object.entries(transfers).map(([key, value]) => [key, String(value)])
  const section = page.slice(
    page.indexOf('\n| `[transfers]`'),
    page.indexOf('\n| In `[transfers]`'),
  )
  const rows = [...section.matchAll(/^\| `(\w+)` +\| +(?:`([^`]+)`)? +\|/gm)]
  t.strictSame(
    rows.map(([, key, value = '']) => [key, value]),
    defaults,
  )
})

t.test('ranges that are not those of all seconds are a table', async (t) => {
  const ranges = Object.entries(allOptions['transfers'] ?? {}).flatMap(([key, { allowed }]) => {
    const [, from = '', to = ''] = /, at least ([0-9.]+), at most ([0-9]+)$/.exec(allowed) ?? []
    return to === '' || (from === '1' && to === '2147483') ? [] : [[key, from, to]]
  })
  const section = page.slice(
    page.indexOf('\n| In `[transfers]`'),
    page.indexOf('\n| `[host_NAME]`'),
  )
  const rows = [...section.matchAll(/^\| `(\w+)` \| ([0-9.]+) \| ([0-9]+) \|/gm)]
  t.strictSame(
    rows.map(([, ...row]) => row),
    ranges,
  )
})
