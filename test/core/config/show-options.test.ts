import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { showOptions } from '../../../core/config/show-options.js'
import { loadDaemonConfig, schema } from '../../../daemon/config.js'

t.test('what is shown is a file of defaults, with the range of each above it', async (t) => {
  const dir = t.testdir({ 'conf.d': { 'a.conf': '[tls]\nenable = no\n' } })
  const before = loadDaemonConfig(dir, '/nonexistent')
  const text = showOptions(schema)
  t.match(text, /^\[remote\]\n\n# Address[^]*\n# TCP port.*\n# Must be .*65535\.\nport = 54322$/m)
  const shown = text.replace(/^enable = true/m, 'enable = no') // there are no certificates
  writeFileSync(join(dir, 'conf.d', 'a.conf'), shown)
  const after = loadDaemonConfig(dir, '/nonexistent')
  t.strictSame(after.warnings, [])
  t.strictSame(after.config, before.config)
})
