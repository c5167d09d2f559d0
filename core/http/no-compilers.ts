/**
 * For fastify's `schemaController`: without it fastify loads its compilers of schemas at each start, 240 modules,
 * also where no route has a schema or other compilers are set.
 */
export const NO_COMPILERS = {
  compilersFactory: { buildValidator: unexpected, buildSerializer: unexpected },
}

function unexpected(): never {
  throw new Error('a schema has no compiler')
}
