/** 405 with Allow, for every path that has a route and every method that has none. */
import type { FastifyInstance, HTTPMethods } from 'fastify'
import { FaultError } from '../fault.js'

export const METHODS: readonly HTTPMethods[] = [
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'PATCH',
  'DELETE',
  'OPTIONS',
]

class MethodNotAllowedError extends FaultError {
  readonly headers: { readonly allow: string }
  constructor(allow: string) {
    super(405, 'Operation Failed', `There is no such method here; use one of ${allow}`)
    this.headers = { allow }
  }
}

/** Methods that no path takes. */
export function checkMethod(method: string): void {
  if (!METHODS.some((known) => known === method)) {
    throw new MethodNotAllowedError(METHODS.join(', '))
  }
}

/** Call it first; the function that it returns comes after the last route. */
export function refuseOtherMethods(app: FastifyInstance): () => void {
  const taken = new Map<string, Set<HTTPMethods>>()
  app.addHook('onRoute', ({ path, method, prefix, schema }) => {
    if (schema?.hide === true && 'isRefusal' in schema) return
    const own = path.slice(prefix.length)
    const methods = taken.get(own) ?? new Set()
    for (const each of [method].flat()) methods.add(each)
    taken.set(own, methods)
  })
  return () => {
    for (const [url, methods] of taken) {
      const refused = METHODS.filter((method) => !methods.has(method))
      const allow = METHODS.filter((method) => methods.has(method)).join(', ')
      app.route({
        method: [...refused],
        url,
        exposeHeadRoute: false,
        schema: { hide: true, isRefusal: true },
        handler: async () => {
          throw new MethodNotAllowedError(allow)
        },
      })
    }
  }
}
