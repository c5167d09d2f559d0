/** Slow clients, and storage that fails while bodies move, once more without the native front. */
import { runPlain } from '../support/plain.js'

runPlain(import.meta.url, ['slow-clients', 'failures'])
