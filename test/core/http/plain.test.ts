/** What clients do to any server, once more without the native front before it. */
import { runPlain } from '../../support/plain.js'

// Those that serve; `linger` and `malformed` do so with and without it anyway.
runPlain(import.meta.url, ['server', 'server-close', 'paced-body'])
