/** docs/errors.md names every error there is, with the status a client gets, and no other. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

interface Source {
  readonly file: string
  /** Without comments. */
  readonly text: string
}

const sources = ['core', 'daemon', 'proxy'].flatMap((room) =>
  readdirSync(room, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name): Source => {
      const file = join(room, name)
      return { file, text: withoutComments(readFileSync(file, 'utf8')) }
    }),
)
const page = readFileSync('docs/errors.md', 'utf8')

t.test('the table has the code and the statuses of every error class', async (t) => {
  const classes = sources.flatMap(errorClasses)
  t.ok(classes.length > 20, 'classes are found')
  t.equal(new Set(classes.map(({ code }) => code)).size, classes.length, 'codes are unique')
  const expected = Object.fromEntries(classes.map(({ code, statuses }) => [code, statuses]))
  const { ERR_INTERNAL: internal, ...documented } = tableOf('Codes')
  t.strictSame(sorted(documented), sorted(expected))
  t.strictSame(internal, [500], 'what is not expected is in the table, too')
})

t.test('the code of the unexpected is the one the server logs', async (t) => {
  const reply = sources.find(({ file }) => file === 'core/http/error-reply.ts')
  t.match(reply?.text, /error\.statusCode : 500/)
  t.match(reply?.text, /error\.code : 'ERR_INTERNAL'/)
})

t.test('answers to what is no request are documented with their statuses', async (t) => {
  const malformed = sources.find(({ file }) => file === 'core/http/malformed.ts')
  const listed = page
    .slice(page.indexOf('\n## Answers without a code'))
    .split('\n')
    .flatMap((line) => /^\| (\d{3}) /.exec(line)?.[1] ?? [])
  t.strictSame(listed.map(Number), statusesIn(malformed?.text ?? ''))
})

t.test('what a transfer says of its failure is documented', async (t) => {
  const rooms = readdirSync('transfers/lifecycle').map((name) => `transfers/lifecycle/${name}`)
  const texts = [...rooms, 'transfers/service.ts'].flatMap(descriptionsIn)
  t.ok(texts.length > 15, 'texts are found')
  const section = page.slice(page.indexOf('\n## Why a transfer failed'))
  for (const text of texts) t.match(section, `\n| \`${text}`, text)
})

/** What is said in calls, in messages, in constants and by choice; up to what is filled in. */
const SAYS =
  /(?:\b(?:lose|giveUp|refused|VolumeError)\([^;'`{]*|\bmessage(?: =|:) |\bconst [A-Z_]+ = |\bwhat =[^;']*|undefined : )(['`])([a-z]+ [^'`$]*)/g

function descriptionsIn(file: string): string[] {
  const text = withoutComments(readFileSync(file, 'utf8'))
  return Array.from(text.matchAll(SAYS), ([, , words = '']) => words)
}

/** Code to statuses, as a heading's table says; a dash means that no client ever sees the error. */
function tableOf(heading: string): Record<string, number[]> {
  const from = page.indexOf(`\n## ${heading}\n`)
  const section = page.slice(from, page.indexOf('\n## ', from + 1))
  const rows = section.matchAll(/^\| `(ERR_\w+)` +\| ([^|]+) \|/gm)
  const codes: Record<string, number[]> = {}
  for (const [, code = '', statuses = ''] of rows) {
    if (code in codes) throw new Error(`${code} is in the table twice`)
    codes[code] = statusesIn(statuses)
  }
  return codes
}

function errorClasses(source: Source): { code: string; statuses: number[] }[] {
  return source.text
    .split(/^(?=(?:export )?(?:abstract )?class )/m)
    .flatMap((text): { code: string; statuses: number[] }[] => {
      const code = /\bcode = '(ERR_\w+)'/.exec(text)?.[1]
      const name = /\bclass (\w+)/.exec(text)?.[1]
      return code === undefined || name === undefined
        ? []
        : [{ code, statuses: statusesOf(name, text) }]
    })
}

/** One status is a property; several are arguments, with a default, wherever the class is used. */
function statusesOf(name: string, text: string): number[] {
  if (!text.includes('statusCode')) return []
  const fixed = /\breadonly statusCode = (\d{3})\b/.exec(text)?.[1]
  if (fixed !== undefined) return [Number(fixed)]
  const byDefault = /\bstatusCode = (\d{3})\b/.exec(text)?.[1] ?? ''
  const users = sources.filter((source) => source.text.includes(`new ${name}(`))
  return statusesIn([byDefault, ...users.map((source) => source.text)].join(' '))
}

/** Numbers of three digits that begin with 4 or 5, each once, in order. */
function statusesIn(text: string): number[] {
  const found = [...text.matchAll(/\b[45]\d\d\b/g)].map(([status]) => Number(status))
  return [...new Set(found)].sort((a, b) => a - b)
}

function sorted(codes: Record<string, number[]>): [string, number[]][] {
  return Object.entries(codes).sort(([a], [b]) => (a < b ? -1 : 1))
}

function withoutComments(text: string): string {
  return text.replace(/\/\*.*?\*\//gs, '').replace(/(^|\s)\/\/.*$/gm, '$1')
}
