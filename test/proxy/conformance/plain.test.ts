/** What clients and daemons do to a proxy, once more without the native front on either side. */
import { runPlain } from '../../support/plain.js'

// Those in which bodies move, answers are relayed, rates are judged, connections begin and end, or daemons are
// not what they should be. Not those of tokens and of the process, see CONTRIBUTING.md.
runPlain(import.meta.url, [
  ...['transfers', 'upstream-connections', 'odd-answers', 'old-daemons', 'rates'],
  ...['answers', 'relay', 'memory'],
])
