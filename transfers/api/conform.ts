/**
 * From what a client wrote, in XML or JSON, to the shape a schema describes: scalars as strings, members
 * the schema does not know left out, as clients post back whole objects (transfer-api.md, 1.3 and 3.2).
 * Only names that the schema has are ever looked up, so no client chooses a key of ours. Whether
 * the result is valid is for the schema's validator to say.
 */
import type { XmlElement } from './xml/reader.js'

/** As much of JSON schema as decides where things go. */
interface Shape {
  readonly type?: string
  readonly properties?: Readonly<Record<string, Shape>>
  readonly items?: Shape
  readonly minLength?: number
}

export function fromXml(element: XmlElement, schema: object): unknown {
  const shape = schema as Shape
  if (shape.properties === undefined) return element.text.trim()
  const members: [string, unknown][] = []
  for (const [name, member] of Object.entries(shape.properties)) {
    const children = element.children.filter((child) => child.name === name)
    const { items } = member
    const [first] = children
    if (items !== undefined) {
      if (first !== undefined) members.push([name, children.map((child) => fromXml(child, items))])
    } else if (first !== undefined) {
      // An empty element is one without a value.
      if (!isEmptyScalar(first, member)) members.push([name, fromXml(first, member)])
    } else {
      const attribute = element.attributes.get(name)
      if (attribute !== undefined) members.push([name, attribute])
    }
  }
  return Object.fromEntries(members)
}

export function fromJson(value: unknown, schema: object): unknown {
  const shape = schema as Shape
  if (shape.properties !== undefined) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
    const members = Object.entries(shape.properties).flatMap(([name, member]) => {
      const given = Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : null
      return given === null ? [] : [[name, fromJson(given, member)] as const]
    })
    return Object.fromEntries(members)
  }
  const { items } = shape
  if (items !== undefined) {
    return Array.isArray(value) ? value.map((item: unknown) => fromJson(item, items)) : value
  }
  const isScalar =
    typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint'
  return isScalar ? String(value) : value
}

function isEmptyScalar(element: XmlElement, shape: Shape): boolean {
  const mayBeEmpty = shape.minLength === undefined
  return shape.properties === undefined && mayBeEmpty && element.text.trim() === ''
}
