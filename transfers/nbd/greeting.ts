/** Whether an NBD server answers at a socket. */
import { createConnection } from 'node:net'

const MAGIC = 'NBDMAGIC'

/**
 * `greets`: it sent the first words of the protocol. `accepts`: something listens, and sent nothing
 * yet, as a server does that has all the clients it takes.
 */
export type Answer = 'greets' | 'accepts' | 'none'

export function knock(socket: string, timeoutMs: number): Promise<Answer> {
  return new Promise((resolve) => {
    const connection = createConnection(socket)
    let said = ''
    let answer: Answer = 'none'
    const end = (): void => {
      connection.destroy()
      resolve(answer)
    }
    connection.setTimeout(timeoutMs, end)
    connection.on('connect', () => (answer = 'accepts'))
    connection.on('data', (chunk) => {
      said += chunk.toString('latin1')
      if (said.length < MAGIC.length) return
      answer = said.startsWith(MAGIC) ? 'greets' : 'none'
      end()
    })
    connection.on('error', end)
    connection.on('end', end)
  })
}
