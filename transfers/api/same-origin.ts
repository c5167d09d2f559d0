/**
 * Browsers send a password they know with any page's form, and a form can hold XML. Pages of other
 * origins may therefore change nothing; programs send no Origin.
 */
import type { FastifyRequest } from 'fastify'
import { FaultError } from '../fault.js'
import { isBodiless } from './body.js'

export function checkOrigin(request: FastifyRequest): void {
  const { origin, host } = request.headers
  if (origin === undefined || isBodiless(request)) return
  if (URL.canParse(origin) && new URL(origin).host === host) return
  throw new FaultError(
    403,
    'Unauthorized',
    'Pages of other origins may only read here; use a program, which sends no Origin',
  )
}
