/** The version of the API: in the path, else a header, else the only one there is. */
import type { FastifyRequest } from 'fastify'
import { FaultError } from '../fault.js'
import { API } from './links.js'

export function checkVersion({ url, headers }: FastifyRequest): void {
  const inPath = new RegExp(`^${API}/v(\\d+)(?:[/?]|$)`).exec(url)?.[1]
  const version = inPath ?? String(headers['version'] ?? '4').trim()
  if (/^4(\.\d+)?$/.test(version)) return
  throw new FaultError(
    400,
    'Invalid value',
    'The version of the API served here is 4; ask for that, or for none',
  )
}
