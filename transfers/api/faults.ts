/** The one place where an error becomes an answer of the API (transfer-api.md, 3.3). */
import type { FastifyBaseLogger, FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { ServiceError } from '../../core/errors.js'
import { FaultError } from '../fault.js'
import { UnreachableError } from '../store/store.js'
import { RULES } from './schemas.js'
import { isFarFromEnd } from './body.js'
import { BusyError } from './busy.js'
import { Representation } from './wire.js'

const INTERNAL = 'Unexpected; the log of the server knows more'
const NO_DATABASE =
  'The database cannot be reached or written, or does not answer in time; ask what became of the request, and try again'

interface Headers {
  readonly headers?: Readonly<Record<string, string>>
}

export function replyFault(
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  logger: FastifyBaseLogger,
): void {
  const fault = toFault(error, request.routeOptions.schema?.body)
  const { statusCode } = fault
  if (statusCode >= 500) logger.error({ status: statusCode, err: error }, 'request failed')
  else logger.debug({ status: statusCode, reason: fault.message }, 'request refused')
  if (isFarFromEnd(request)) void reply.header('connection', 'close')
  void reply
    .headers((fault as Headers).headers ?? {})
    .code(statusCode)
    .send(faultOf(fault))
}

export function faultOf({ reason, message }: FaultError): Representation {
  return new Representation('fault', { detail: message, reason })
}

function toFault(error: unknown, schema: unknown): FaultError {
  if (error instanceof FaultError) return error
  if (error instanceof UnreachableError) return new BusyError(NO_DATABASE)
  if (error instanceof ServiceError) {
    return new FaultError(error.statusCode, 'Operation Failed', error.message)
  }
  const { validation, statusCode } = error as Partial<FastifyError>
  if (validation !== undefined) return invalid(validation, nameOf(schema))
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new FaultError(statusCode, 'Operation Failed', (error as Error).message)
  }
  return new FaultError(500, 'Operation Failed', INTERNAL)
}

/** As the schema's validator says it. */
interface Violation {
  readonly keyword: string
  readonly instancePath: string
  readonly params: {
    readonly requiredProperties?: unknown
    readonly allowedValues?: unknown
    readonly pattern?: unknown
  }
  readonly message?: string | undefined
}

function invalid(violations: readonly object[], type: string): FaultError {
  const [first] = violations as readonly Violation[]
  const where = first?.instancePath.slice(1).replaceAll('/', '.') ?? ''
  const missing = first?.params.requiredProperties
  if (first === undefined || (where === '' && first.keyword === 'type')) {
    return new FaultError(
      400,
      'Incomplete parameters',
      'A body is required: XML or JSON of the object',
    )
  }
  if (Array.isArray(missing)) {
    const names = missing.map((name) => camel(String(name))).join(', ')
    return new FaultError(
      400,
      'Incomplete parameters',
      `${where === '' ? type : where} [${names}] required for add`,
    )
  }
  if (first.keyword === 'minLength') {
    return new FaultError(400, 'Invalid value', `${where} must not be empty`)
  }
  const { allowedValues, pattern } = first.params
  const rule = RULES.get(pattern instanceof RegExp ? pattern.source : String(pattern))
  if (rule !== undefined) return new FaultError(400, 'Invalid value', `${where} ${rule}`)
  const allowed = Array.isArray(allowedValues) ? `: ${allowedValues.join(', ')}` : ''
  return new FaultError(400, 'Invalid value', `${where} ${first.message ?? 'is wrong'}${allowed}`)
}

/** Attributes are named as in the model: provisionedSize. */
function camel(name: string): string {
  return name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
}

/** ImageTransfer, of the element image_transfer. */
function nameOf(schema: unknown): string {
  const name =
    (schema as { readonly xml?: { readonly name?: string } } | undefined)?.xml?.name ?? ''
  return camel(`_${name}`)
}
