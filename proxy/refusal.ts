/** Changes that go beyond the image are refused here, and the daemon judges what came of an upload. */
import type { Exchange } from '../core/http/exchange.js'
import { ask, type Relay } from './relay.js'

/** How long a refusal waits for a daemon that is to know of it. */
const NOTE_MS = 2000

/**
 * The daemon knows what is missing of an image, and hears of no refusal here: it gets a request that it
 * refuses, without a byte beyond any image. One that cannot be asked will never know.
 */
export async function noteRefusal(exchange: Exchange, { ticket, upstream }: Relay): Promise<void> {
  const headers = {
    'content-length': 0,
    'content-range': `bytes ${Number.MAX_SAFE_INTEGER}-*/*`,
  }
  const question = { method: 'PUT', suffix: '?flush=n', headers, isRepeatable: true }
  try {
    const patience = AbortSignal.timeout(NOTE_MS)
    const answer = await ask(upstream, question, AbortSignal.any([ticket.canceled, patience]))
    answer.body.release()
  } catch (error) {
    // The client is told what is wrong with its request all the same.
    exchange.logger.warn({ err: error }, 'the daemon does not know that an upload was refused')
  }
}
