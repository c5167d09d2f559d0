/** What clients and daemons do to a proxy, once more without the native front on either side. */
import t from 'tap'

const env = { ...process.env, IMAGEIO_TEST_NATIVE: 'off' }
const isOff = process.env['IMAGEIO_TEST_NATIVE'] === 'off'

/** Those in which bodies move, connections end, or daemons are not what they should be. */
const SUITES = ['transfers', 'upstream-connections', 'odd-answers', 'old-daemons', 'memory']

t.setTimeout(300_000)
for (const name of SUITES) {
  const file = new URL(`./${name}.test.js`, import.meta.url).pathname
  const options = { env, skip: isOff && 'it runs without the front anyway' }
  // The argument makes directories of the test's its own, apart from who runs the file meanwhile.
  t.spawn(process.execPath, [file, 'plain'], options, `${name}, without the native front`)
}
