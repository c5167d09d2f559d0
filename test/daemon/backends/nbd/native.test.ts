/** What servers do right and wrong, once more with threads of the addon that move the data. */
import t from 'tap'

const env = { ...process.env, IMAGEIO_TEST_NATIVE: 'on' }

const SUITES = ['replies', 'extended', 'servers', 'lost-writes', 'flags']

t.setTimeout(300_000)
for (const name of SUITES) {
  const file = new URL(`./${name}.test.js`, import.meta.url).pathname
  // The argument makes directories of the test's its own, apart from who runs the file meanwhile.
  t.spawn(process.execPath, [file, 'threads'], { env }, `${name}, with the data on threads`)
}
