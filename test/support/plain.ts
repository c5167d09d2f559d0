/** Suites once more, without the native front (docs/transport.md) before what they start. */
import t from 'tap'

const TIMEOUT_MS = 600_000

/** `names` of those beside the test at `url`, one after the other. */
export function runPlain(url: string, names: readonly string[]): void {
  const isOff = process.env['IMAGEIO_TEST_NATIVE'] === 'off'
  const env = { ...process.env, IMAGEIO_TEST_NATIVE: 'off' }
  t.setTimeout(TIMEOUT_MS)
  for (const name of names) {
    const file = new URL(`./${name}.test.js`, url).pathname
    const options = { env, skip: isOff && 'it runs without the front anyway' }
    // The argument makes directories of the test's its own, apart from who runs the file meanwhile.
    t.spawn(process.execPath, [file, 'plain'], options, `${name}, without the native front`)
  }
}
