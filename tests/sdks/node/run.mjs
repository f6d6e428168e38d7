// The part of Node.js of ../run.py, which starts the node and the providers: TIDEGATE_URL, TIDEGATE_KEY, MODELS, ONLY.

import * as ai from './ai.mjs'
import anthropic from './anthropic.mjs'
import openai from './openai.mjs'

globalThis.AI_SDK_LOG_WARNINGS = false
const { TIDEGATE_URL: url, TIDEGATE_KEY: key, MODELS, ONLY = '' } = process.env
const sdks = { 'openai.js': openai, '@anthropic-ai/sdk': anthropic }
for (const name of Object.keys(ai.SPEAK)) sdks[name] = (...where) => ai.cases(name, ...where)

let failed = 0
for (const [name, cases] of Object.entries(sdks)) {
  for (const model of MODELS.split(',')) {
    for (const [what, run] of Object.entries(cases(url, key, model))) {
      const line = `${name} ${model} ${what}`
      if (!line.includes(ONLY)) continue
      try {
        await run()
        console.log(`ok    ${line}`)
      } catch (why) {
        failed += 1
        console.log(`FAIL  ${line}\n      ${(why?.stack ?? String(why)).slice(0, 1500)}`)
      }
    }
  }
}
process.exit(failed ? 1 : 0)
