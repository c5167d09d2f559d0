/** Every relative link of the documentation leads to a file that is there, and to a heading in it. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import t from 'tap'

const pages = ['README.md', ...readdirSync('docs').map((name) => join('docs', name))].filter(
  (name) => name.endsWith('.md'),
)

for (const page of pages) {
  t.test(`links of ${page} lead somewhere`, async (t) => {
    for (const link of linksOf(page)) t.equal(faultOf(page, link), undefined, link)
    t.pass('there may be none')
  })
}

t.test('every page of docs can be reached from the README', async (t) => {
  const linked = linksOf('README.md').map((link) => normalize(link.replace(/#.*/, '')))
  for (const page of pages) {
    if (page !== 'README.md') t.ok(linked.includes(page), page)
  }
})

t.test('headings become anchors as on the web', async (t) => {
  const text =
    '# A `b` c/d: e, [f](g.md)\n\n```sh\n# none\n```\n\n## Twice\n## Twice\n## GET /a/{id}\n'
  t.strictSame(anchorsOf(text), ['a-b-cd-e-f', 'twice', 'twice-1', 'get-aid'])
})

/** What is wrong with a link, if anything is. */
function faultOf(page: string, link: string): string | undefined {
  const [path = '', anchor] = link.split('#')
  const target = path === '' ? page : join(dirname(page), decodeURIComponent(path))
  if (!existsSync(target)) return `${target} does not exist`
  if (anchor === undefined) return undefined
  if (anchorsOf(readFileSync(target, 'utf8')).includes(anchor)) return undefined
  return `${target} has no heading #${anchor}`
}

/** Targets of links and pictures; those with a scheme are not ours to check. */
function linksOf(page: string): string[] {
  const text = withoutCode(readFileSync(page, 'utf8')).replace(/`[^`\n]*`/g, '')
  const inline = [...text.matchAll(/\]\(([^)\s]+)[^)]*\)/g)]
  const reference = [...text.matchAll(/^\[[^\]]+\]: +(\S+)/gm)]
  return [...inline, ...reference]
    .map(([, target = '']) => target)
    .filter((target) => !/^[a-z][a-z0-9+.-]*:/i.test(target))
}

/** Anchors as GitHub makes them: lower case, without punctuation, blanks as dashes, repeated ones numbered. */
function anchorsOf(text: string): string[] {
  const seen = new Map<string, number>()
  return [...withoutCode(text).matchAll(/^#{1,6} +(.+?) *#*$/gm)].map(([, heading = '']) => {
    const anchor = heading
      .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M}_ -]/gu, '')
      .replaceAll(' ', '-')
    const count = seen.get(anchor) ?? 0
    seen.set(anchor, count + 1)
    return count === 0 ? anchor : `${anchor}-${count}`
  })
}

function withoutCode(text: string): string {
  return text.replace(/^(```|~~~).*?^\1/gms, '')
}
