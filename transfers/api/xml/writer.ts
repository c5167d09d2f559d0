/**
 * The JSON form of an object as XML (transfer-api.md, 3.1): identity and links are attributes, what has
 * no value is left out, a list repeats its element.
 */
import type { Wire, WireObject } from '../wire.js'

const ATTRIBUTES: ReadonlySet<string> = new Set(['href', 'id', 'rel'])

export function writeXml(element: string, value: WireObject): string {
  const lines: string[] = []
  write(lines, element, value, '')
  return `${lines.join('\n')}\n`
}

function write(lines: string[], name: string, value: Wire | undefined, indent: string): void {
  if (value === undefined) return
  if (typeof value === 'string') {
    lines.push(`${indent}<${name}>${escape(value)}</${name}>`)
  } else if (isList(value)) {
    for (const item of value) write(lines, name, item, indent)
  } else {
    writeObject(lines, name, value, indent)
  }
}

function writeObject(lines: string[], name: string, value: WireObject, indent: string): void {
  let tag = `${indent}<${name}`
  const inner: string[] = []
  for (const [key, member] of Object.entries(value)) {
    if (ATTRIBUTES.has(key) && typeof member === 'string') {
      tag += ` ${key}="${escape(member).replaceAll('"', '&quot;')}"`
    } else {
      write(inner, key, member, `${indent}  `)
    }
  }
  if (inner.length === 0) lines.push(`${tag}/>`)
  else lines.push(`${tag}>`, ...inner, `${indent}</${name}>`)
}

function isList(value: Wire): value is readonly Wire[] {
  return Array.isArray(value)
}

/** Characters that XML 1.0 has not, escaped or not, would make the whole answer unreadable. */
// eslint-disable-next-line no-control-regex -- they are what it is about
const IMPOSSIBLE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g

function escape(text: string): string {
  return text
    .toWellFormed()
    .replace(IMPOSSIBLE, '\ufffd')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('\r', '&#13;')
}
