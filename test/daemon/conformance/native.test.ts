/** What clients do to a daemon's images, once more with the native front before it. */
import t from 'tap'

const env = { ...process.env, IMAGEIO_TEST_NATIVE: 'on' }

/** Those in which bodies move, or connections end. */
const SUITES = [
  'upload',
  'download',
  'framing',
  'leaving',
  'limits',
  'cancel',
  'races',
  'accounting',
]

t.setTimeout(300_000)
for (const name of SUITES) {
  const file = new URL(`./${name}.test.js`, import.meta.url).pathname
  t.spawn(process.execPath, [file], { env }, `${name}, with the native front`)
}
