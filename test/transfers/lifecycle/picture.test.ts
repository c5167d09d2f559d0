/** The picture in the manual is that of the table. */
import { readFileSync } from 'node:fs'
import t from 'tap'
import { PHASES } from '../../../transfers/lifecycle/phases.js'
import { lifecyclePicture, withPicture } from '../../../transfers/lifecycle/picture.js'

t.test('the picture in docs is up to date (npm run docs)', async (t) => {
  const page = readFileSync('docs/transfers.md', 'utf8')
  t.equal(page, withPicture(page))
})

t.test('it has every phase, and every way from one to another', async (t) => {
  const lines = lifecyclePicture().split('\n')
  for (const phase of PHASES) {
    t.ok(
      lines.some((line) => line.startsWith(`    ${phase} --> `)),
      `${phase} is left`,
    )
    t.ok(
      lines.some((line) => line.includes(`--> ${phase}`)),
      `${phase} is reached`,
    )
  }
  for (const line of [
    '    [*] --> initializing',
    '    initializing --> paused_user : pause (upload)',
    '    initializing --> cancelled_system : setup failed (download)',
    '    transferring --> finalizing_success : finalize',
    '    transferring --> cancelled_system : session lost (download), inactive (upload with policy cancel and download with policy legacy or cancel)',
    '    finalizing_success --> finished_success : stopped (download), verified (upload)',
    '    finished_success --> [*]',
  ]) {
    t.ok(lines.includes(line), line)
  }
  // These end a label.
  t.notMatch(lines.map((line) => line.replace(' : ', '')).join('\n'), /[:;]/)
})

t.test('a page without a place for it is an error', async (t) => {
  t.throws(() => withPicture('# A page\n'), /no place/)
})
