import t from 'tap'
import { survive } from './crashes.js'

t.test('killed at each point, and started again: an upload is good', (t) => survive(t, 'finalize'))
