/** The programs of docs/signed-tickets.md make tokens that are accepted. */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parseClaims } from '../../core/tickets/signed/claims.js'
import { parseHeader, verifyToken } from '../../core/tickets/signed/token.js'
import { keyOfPem } from '../../core/tickets/signed/verification-key.js'
import { without } from '../support/tools.js'

const page = readFileSync('docs/signed-tickets.md', 'utf8')

/** The only block in that language. */
function blockOf(language: string): string {
  const blocks = [...page.matchAll(/^```(\w+)\n(.*?)^```$/gms)]
  const found = blocks.filter(([, name]) => name === language)
  if (found.length !== 1) throw new Error(`${found.length} blocks of ${language}`)
  return found[0]?.[2] ?? ''
}

/** A directory with the keys that the page makes with OpenSSL. */
function withKeys(t: Test): string {
  const dir = t.testdir({})
  const commands = /^openssl genpkey.*\nopenssl pkey.*$/m.exec(page)?.[0] ?? ''
  execFileSync('sh', ['-ec', commands], { cwd: dir })
  return dir
}

async function accept(t: Test, dir: string, token: string): Promise<void> {
  const { algorithm, keyId } = parseHeader(token)
  t.equal(keyId, 'engine')
  const key = keyOfPem(readFileSync(join(dir, 'engine.pem'), 'utf8'), 'engine')
  const claims = parseClaims(await verifyToken(token, algorithm, key), {
    audience: ['host.example.com'],
    ...{ maxLifetime: 86_400, clockTolerance: 5, inactivityTimeout: 60 },
    normalizeUrl: (url) => url,
  })
  t.equal(claims.transferId, 'backup-17')
  t.match(claims.definition, { url: 'file:///var/lib/images/disk.raw', ops: ['read'] })
}

t.test('Node', { skip: without('openssl') }, async (t) => {
  const dir = withKeys(t)
  const file = join(dir, 'sign.mjs')
  writeFileSync(file, blockOf('js'))
  const env = { ...process.env, NODE_OPTIONS: '' }
  const token = execFileSync(process.execPath, [file], { cwd: dir, env, encoding: 'utf8' })
  await accept(t, dir, token.trim())
})

t.test('Python', { skip: without('openssl', 'python3') || withoutPyJwt() }, async (t) => {
  const dir = withKeys(t)
  const token = execFileSync('python3', ['-'], { cwd: dir, input: blockOf('python') })
  await accept(t, dir, token.toString().trim())
})

function withoutPyJwt(): string | false {
  try {
    execFileSync('python3', ['-c', 'import jwt, cryptography'], { stdio: 'ignore' })
    return false
  } catch {
    return 'PyJWT is not installed'
  }
}
