/** A fault as text, for answers that fastify has no part in. */
import type { FaultError } from '../fault.js'
import { faultOf } from './faults.js'
import type { Media } from './media.js'
import { writeXml } from './xml/writer.js'

export function writeFault(fault: FaultError, media: Media): string {
  const { element, value } = faultOf(fault)
  return media === 'xml' ? writeXml(element, value) : JSON.stringify(value)
}
