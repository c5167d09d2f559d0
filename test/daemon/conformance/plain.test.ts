/** What clients do to a daemon's images, once more without the native front before it. */
import { runPlain } from '../../support/plain.js'

// Those in which bodies move, requests are framed, time and rates are judged, or connections begin and end.
// Which are not among them, and why, see CONTRIBUTING.md.
runPlain(import.meta.url, [
  ...['upload', 'download', 'leaving', 'cancel', 'accounting', 'nbd', 'rates', 'framing'],
])
