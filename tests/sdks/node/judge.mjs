// What every SDK is to see, whoever answers; the numbers are those of ../providers.py.

import assert from 'node:assert/strict'

export const ANSWER = 'Hello there'
export const THOUGHT = 'Let me see.'
export const TOLD = 'They say: 3 in Oslo and 17 in Rome'
export const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=='
export const SEEN = `I see image/png of ${Buffer.from(PNG, 'base64').length} bytes`
export const [NEW, CACHED, OUT] = [7, 4, 5]
export const TOTAL = NEW + CACHED + OUT
export const TOOL = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false }
export const SCHEMA = {
  type: 'object',
  properties: { city: { type: 'string' }, celsius: { type: 'number' } },
  required: ['city', 'celsius'],
  additionalProperties: false
}
export const degrees = ({ city }) => `${{ Oslo: 3, Rome: 17 }[city]} in ${city}`
export const same = (found, wanted) => assert.deepEqual(found, wanted)

// The SDK's own error class; its text holds the word.
export async function refused (kind, word, call) {
  const why = await call().then(answer => assert.fail(`no error: ${JSON.stringify(answer)}`), why => why)
  assert.ok(why instanceof kind, `no ${kind.name}: ${why.stack}`)
  assert.ok(`${why.message} ${why.responseBody ?? ''}`.includes(word), `${why.message} does not say ${word}`)
  return why
}

export async function all (stream) {
  const events = []
  for await (const event of stream) events.push(event)
  return events
}
