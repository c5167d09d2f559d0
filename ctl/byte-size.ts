/** Numbers of bytes on the command line. */
const UNITS = ['', 'K', 'M', 'G', 'T']

export const BYTE_SIZE_RULE = 'must be a number of bytes, or one like 10M or 6GiB'

/** Units are binary, and all digits are kept. Undefined when it is no number of bytes. */
export function parseByteSize(text: string): bigint | undefined {
  const [, digits, unit = ''] = /^(\d{1,20})(?:([KMGT])(?:iB)?)?$/.exec(text) ?? []
  return digits === undefined ? undefined : BigInt(digits) * 1024n ** BigInt(UNITS.indexOf(unit))
}
