/** The file name a browser saves under (RFC 6266, RFC 8187). Control characters never get here. */
export function contentDisposition(filename: string | undefined): string {
  if (filename === undefined) return 'attachment'
  if (/^[\w!#$%&'*+.^`|~-]+$/.test(filename)) return `attachment; filename=${filename}`
  const plain = filename.replace(/[^ -~]/gu, '_').replace(/["\\]/g, '\\$&')
  const quoted = `attachment; filename="${plain}"`
  return /^[ -~]*$/.test(filename) ? quoted : `${quoted}; filename*=UTF-8''${encode(filename)}`
}

function encode(text: string): string {
  return encodeURIComponent(text).replace(
    /['()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  )
}
