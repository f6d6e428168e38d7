// `ai` with its providers: @ai-sdk/openai (chat and responses), @ai-sdk/anthropic, @ai-sdk/google.

import { createAnthropic } from '@ai-sdk/anthropic'
import { createGoogleGenerativeAI } from '@ai-sdk/google'
import { createOpenAI } from '@ai-sdk/openai'
import { APICallError, Output, generateText, jsonSchema, stepCountIs, streamText, tool } from 'ai'

import { ANSWER, CACHED, NEW, OUT, PNG, SCHEMA, SEEN, THOUGHT, TOLD, TOOL, degrees, refused, same } from './judge.mjs'

const tools = { weather: tool({ description: 'The weather', inputSchema: jsonSchema(TOOL), execute: degrees }) }
const thinking = {
  openai: { reasoningEffort: 'high', reasoningSummary: 'auto', forceReasoning: true }, // it knows its own models by name
  anthropic: { thinking: { type: 'enabled', budgetTokens: 2048 } },
  google: { thinkingConfig: { includeThoughts: true, thinkingBudget: 2048 } }
}

// How the providers of `ai` are pointed at a node.
export const SPEAK = {
  'ai openai.chat': (url, apiKey) => createOpenAI({ baseURL: `${url}/v1`, apiKey }).chat,
  'ai openai.responses': (url, apiKey) => createOpenAI({ baseURL: `${url}/v1`, apiKey }).responses,
  'ai anthropic': (url, apiKey) => createAnthropic({ baseURL: `${url}/v1`, apiKey }),
  'ai google': (url, apiKey) => createGoogleGenerativeAI({ baseURL: `${url}/v1beta`, apiKey })
}

export function cases (name, url, key, served) {
  const model = SPEAK[name](url, key)(served)
  const ask = more => generateText({ model, maxRetries: 0, ...more })
  // An error in a stream is told to `onError`; whoever waits for the text gets another one.
  const streamed = async more => {
    let failed
    const answer = streamText({ model, maxRetries: 0, onError: ({ error }) => { failed = error }, ...more })
    const parts = []
    for await (const part of answer.fullStream) parts.push(part)
    if (failed) throw failed
    return { text: await answer.text, usage: await answer.usage, steps: await answer.steps, reasoningText: await answer.reasoningText }
  }

  // Of chat completions it writes `max_tokens` for any model whose name it does not know.
  const maxOutputTokens = name === 'ai openai.chat' ? undefined : 4096
  // @ai-sdk/google wraps what a tool returns: {"name":"weather","content":"3 in Oslo"}.
  const told = text => name === 'ai google' ? /3 in Oslo.*17 in Rome/.test(text) : text === TOLD

  const every = {
    async chat () {
      for (const way of [ask, streamed]) {
        const { text, usage } = await way({ prompt: 'Hi', system: 'Be brief.' })
        same([text, usage.inputTokens, usage.inputTokenDetails.cacheReadTokens, usage.outputTokens], [ANSWER, NEW + CACHED, CACHED, OUT])
      }
    },
    async loop () {
      for (const way of [ask, streamed]) {
        const { text, steps } = await way({ prompt: 'The weather in both?', tools, stopWhen: stepCountIs(3) })
        same([told(text), steps.map(step => step.finishReason)], [true, ['tool-calls', 'stop']])
      }
    },
    async structured () {
      const providerOptions = { anthropic: { structuredOutputMode: 'outputFormat' } } // and asks others by a tool
      const { output } = await ask({ prompt: 'Weather as json', output: Output.object({ schema: jsonSchema(SCHEMA) }), providerOptions })
      same(output, { city: 'Oslo', celsius: 3 })
    },
    async image () {
      const content = [{ type: 'text', text: 'What is it?' }, { type: 'image', image: PNG, mediaType: 'image/png' }]
      same((await ask({ messages: [{ role: 'user', content }] })).text, SEEN)
    },
    async reasoning () {
      for (const way of [ask, streamed]) {
        const { text, reasoningText } = await way({ prompt: 'Hi', maxOutputTokens, providerOptions: thinking })
        same([text, reasoningText], [ANSWER, THOUGHT])
      }
    },
    async reasoned_loop () {
      const { text } = await streamed({ prompt: 'The weather in both?', tools, stopWhen: stepCountIs(3), maxOutputTokens, providerOptions: thinking })
      same(told(text), true)
    },
    async errors () {
      const why = await refused(APICallError, 'too many', () => ask({ prompt: 'throttle' }))
      same([why.statusCode, why.responseHeaders['retry-after'], why.isRetryable], [429, '7', true])
      const bad = await refused(APICallError, 'no schema', () => ask({ prompt: 'as json' }))
      same([bad.statusCode, bad.isRetryable], [400, false])
    },
    async breaks () {
      const why = await streamed({ prompt: 'break off' }).then(answer => { throw new Error(`no error: ${answer.text}`) }, why => why)
      same(JSON.stringify(why?.message ?? why).includes('broke off'), true)
    }
  }
  // This provider of `ai` does not show thoughts of chat completions, whoever sends them.
  if (name === 'ai openai.chat') delete every.reasoning
  return every
}
