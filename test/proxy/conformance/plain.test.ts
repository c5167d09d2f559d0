/** What clients and daemons do to a proxy, once more without the native front on either side. */
import { runPlain } from '../../support/plain.js'

// Those in which bodies move, rates are judged, connections end, or daemons are not what they should be.
runPlain(import.meta.url, [
  ...['transfers', 'upstream-connections', 'odd-answers', 'old-daemons', 'rates'],
])
