/**
 * Bodies of requests: read up to a limit, then XML or JSON by what they begin with, as `curl -d` says
 * they were forms. The route's schema tells what is taken from them.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { IncomingMessage } from 'node:http'
import { FaultError } from '../fault.js'
import { parseExactJson } from '../../core/json.js'
import { fromJson, fromXml } from './conform.js'
import { parseXml, type XmlElement } from './xml/reader.js'

/** An OVF of virt-v2v has tens of KiB; nothing else comes near. */
export const MAX_BODY = 1024 * 1024

/** Methods whose body means nothing; the client may have announced one that it never sends. */
const BODILESS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'DELETE'])

export function acceptBodies(app: FastifyInstance): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', async (request: FastifyRequest, payload: IncomingMessage) => {
    if (isBodiless(request)) return undefined
    const schema = request.routeOptions.schema?.body
    const bytes = await readBody(payload)
    return schema === undefined ? undefined : decodeBody(bytes, schema)
  })
  app.addHook('onRequest', async (request, reply) => {
    if (isBodiless(request) && announcesBody(request)) void reply.header('connection', 'close')
  })
}

export function isBodiless({ method }: FastifyRequest): boolean {
  return BODILESS.has(method)
}

/** More than this is not worth waiting for once the answer is known: the connection is closed instead. */
const MAX_IGNORED = 64 * 1024

/** Whether so much of the body is still to come that the connection has no future. */
export function isFarFromEnd({ raw, headers }: FastifyRequest): boolean {
  const isLong = headers['transfer-encoding'] !== undefined
  return !raw.complete && (isLong || Number(headers['content-length'] ?? 0) > MAX_IGNORED)
}

function announcesBody({ headers }: FastifyRequest): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

export async function readBody(payload: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  if (Number(payload.headers['content-length'] ?? 0) > MAX_BODY) throw tooLarge()
  for await (const chunk of payload as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > MAX_BODY) throw tooLarge()
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function tooLarge(): FaultError {
  return new FaultError(413, 'Operation Failed', `A body has at most ${MAX_BODY} bytes`)
}

/** Undefined when there is none. */
export function decodeBody(bytes: Buffer, schema: unknown): unknown {
  const text = decodeUtf8(bytes)
  if (text.trim() === '') return undefined
  const shape = schema as { readonly xml?: { readonly name?: string } }
  if (text.trimStart().startsWith('<')) {
    const root = refusing('XML', () => parseXml(text))
    checkRoot(root, shape.xml?.name)
    return fromXml(root, shape)
  }
  return fromJson(
    refusing('JSON', () => parseExactJson(bytes)),
    shape,
  )
}

function checkRoot(root: XmlElement, wanted: string | undefined): void {
  if (wanted === undefined || root.name === wanted) return
  throw new FaultError(400, 'Invalid value', `The body must be an element ${wanted}`)
}

function decodeUtf8(bytes: Buffer): string {
  return refusing('UTF-8', () => new TextDecoder('utf-8', { fatal: true }).decode(bytes))
}

function refusing<T>(language: string, read: () => T): T {
  try {
    return read()
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new FaultError(
      400,
      'Invalid value',
      `The body is no ${language} that is served here: ${reason.slice(0, 200)}`,
    )
  }
}
