/** Objects as they are on the wire, in the form JSON has: every scalar is a string (transfer-api.md, 3.2). */
export type Wire = string | WireObject | readonly Wire[]

export interface WireObject {
  readonly [name: string]: Wire | undefined
}

/** What a handler answers with: the name of the root element in XML, and what is inside. */
export class Representation {
  readonly element: string
  readonly value: WireObject
  constructor(element: string, value: WireObject) {
    this.element = element
    this.value = value
  }
}

/** `text`, or nothing: elements without a value are left out, as clients fail on empty numbers. */
export function optional(value: string | number | boolean | undefined): string | undefined {
  return value === undefined ? undefined : String(value)
}

/** Pads nothing, needs no zone: the one form of a date that all clients read. */
export function date(milliseconds: number): string {
  return new Date(milliseconds).toISOString()
}
