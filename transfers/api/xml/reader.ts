/**
 * XML of clients, as a tree. The parser is strict about well-formedness and knows the five predefined
 * entities only; what a document type could declare (entities that grow, files that are read) is
 * refused with it, and how deep and how many elements may be is bounded.
 */
import { SaxesParser } from 'saxes'

export interface XmlElement {
  readonly name: string
  readonly attributes: ReadonlyMap<string, string>
  readonly children: readonly XmlElement[]
  /** All character data directly inside. */
  readonly text: string
}

/** The deepest documents of known clients, a disk inside a transfer, have six levels. */
const MAX_DEPTH = 32
/** An OVF is text here; a disk has some twenty elements. */
const MAX_ELEMENTS = 10_000

interface Open {
  name: string
  attributes: ReadonlyMap<string, string>
  children: XmlElement[]
  text: string
}

/** Throws an Error that says what is wrong. */
export function parseXml(text: string): XmlElement {
  const parser = new SaxesParser({ position: false })
  const open: Open[] = []
  let root: XmlElement | undefined
  let count = 0
  const append = (text: string): void => {
    const parent = open.at(-1)
    if (parent !== undefined) parent.text += text
  }
  parser.on('error', (error) => {
    throw error
  })
  parser.on('doctype', () => {
    throw new Error('a document type is not allowed')
  })
  parser.on('xmldecl', ({ encoding }) => {
    if (encoding !== undefined && !/^(utf-8|us-ascii)$/i.test(encoding)) {
      throw new Error('the encoding must be UTF-8')
    }
  })
  parser.on('opentag', ({ name, attributes }) => {
    if (open.length >= MAX_DEPTH) throw new Error(`elements are nested deeper than ${MAX_DEPTH}`)
    if (++count > MAX_ELEMENTS) throw new Error(`there are more than ${MAX_ELEMENTS} elements`)
    const element: Open = {
      name,
      attributes: new Map(Object.entries(attributes)),
      children: [],
      text: '',
    }
    open.at(-1)?.children.push(element)
    open.push(element)
  })
  parser.on('text', append)
  parser.on('cdata', append)
  parser.on('closetag', () => {
    root = open.pop()
  })
  parser.write(text).close()
  if (root === undefined) throw new Error('there is no element')
  return root
}
