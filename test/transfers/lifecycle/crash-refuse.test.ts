import t from 'tap'
import { survive } from './crashes.js'

t.test('killed at each point, and started again: an image is refused', (t) => survive(t, 'refuse'))
