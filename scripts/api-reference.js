// Writes docs/transfers-api.md anew from the compiled schemas: npm run docs.
import { readFileSync, writeFileSync } from 'node:fs'
import { pino } from 'pino'
import { createApi } from '../dist/transfers/api/api.js'
import { API } from '../dist/transfers/api/links.js'
import { BEGIN, reference } from '../dist/transfers/api/reference.js'

const PAGE = 'docs/transfers-api.md'
// No route is called, so nobody needs a service.
const app = await createApi({ service: {}, users: {}, logger: pino({ level: 'silent' }) })
const page = readFileSync(PAGE, 'utf8')
const byHand = page.slice(0, page.indexOf(BEGIN))
writeFileSync(PAGE, byHand + reference(app.swagger(), API))
await app.close()
