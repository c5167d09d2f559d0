/** Whether a URL is one that some server takes: which of them, and which paths, is for it to judge. */

/** file:///PATH, nbd: in any form, nbds://…, or the image of a daemon, for proxies. */
export function isImageUrl(text: string): boolean {
  if (/^https?:/i.test(text)) return /\/images\/./.test(URL.parse(text)?.pathname ?? '')
  return /^file:(\/\/[^/?#]*)?\/[^/]/is.test(text) || /^(nbd:|nbds:\/\/)./i.test(text)
}
