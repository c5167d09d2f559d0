/** HTTP/1.1 wants one Host (RFC 9112, 3.2); Node would refuse its lack without a word. */
import type { IncomingMessage } from 'node:http'
import { FaultError } from '../fault.js'

export function checkHost({ httpVersion, rawHeaders }: IncomingMessage): void {
  const hosts = rawHeaders.filter((name, index) => index % 2 === 0 && /^host$/i.test(name)).length
  if (hosts === 1 || (hosts === 0 && httpVersion === '1.0')) return
  const what = hosts === 0 ? 'no' : 'more than one'
  throw new HostError(`The request has ${what} Host header; send one`)
}

class HostError extends FaultError {
  readonly headers = { connection: 'close' }
  constructor(detail: string) {
    super(400, 'Operation Failed', detail)
  }
}
