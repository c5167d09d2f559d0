/** What clients do to a daemon's images, once more without the native front before it. */
import { runPlain } from '../../support/plain.js'

// Those in which bodies move, requests are framed, time and rates are judged, or connections begin and end.
// Not those of tickets, tokens, authorization and the process, see CONTRIBUTING.md.
runPlain(import.meta.url, [
  ...['upload', 'download', 'leaving', 'cancel', 'accounting', 'nbd', 'rates', 'limits'],
  ...['integrity', 'framing', 'http', 'conditions', 'patch', 'extents', 'checksum', 'flush'],
  ...['flush-of-others', 'unfinished', 'races', 'info-cors', 'service'],
])
