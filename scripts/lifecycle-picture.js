// Writes the picture in docs/transfers.md anew from the table of phases: npm run docs.
import { readFileSync, writeFileSync } from 'node:fs'
import { withPicture } from '../dist/transfers/lifecycle/picture.js'

const PAGE = 'docs/transfers.md'
writeFileSync(PAGE, withPicture(readFileSync(PAGE, 'utf8')))
