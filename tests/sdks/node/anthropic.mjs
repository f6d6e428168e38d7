// `@anthropic-ai/sdk`: messages.

import Anthropic from '@anthropic-ai/sdk'

import { ANSWER, CACHED, NEW, OUT, PNG, SCHEMA, SEEN, THOUGHT, TOLD, TOOL, degrees, refused, same } from './judge.mjs'

const tools = [{ name: 'weather', input_schema: TOOL }]
const thinking = { type: 'enabled', budget_tokens: 2048 }
const user = content => ({ messages: [{ role: 'user', content }] })
const used = ({ usage }) => [usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens]

export default function cases (url, key, model) {
  const client = new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0 })
  const create = more => client.messages.create({ model, max_tokens: 4096, ...more })
  const streamed = more => client.messages.stream({ model, max_tokens: 4096, ...more }).finalMessage()

  async function loop (create, more) {
    const { messages } = user('The weather in both?')
    const turn = await create({ messages, tools, ...more })
    const calls = turn.content.filter(block => block.type === 'tool_use')
    same([calls.map(call => call.input), turn.stop_reason], [[{ city: 'Oslo' }, { city: 'Rome' }], 'tool_use'])
    const results = calls.map(call => ({ type: 'tool_result', tool_use_id: call.id, content: degrees(call.input) }))
    messages.push({ role: 'assistant', content: turn.content }, { role: 'user', content: results })
    const told = await create({ messages, tools, ...more })
    same(told.content.at(-1).text, TOLD)
    messages.push({ role: 'assistant', content: told.content }, { role: 'user', content: 'Thanks' })
    same((await create({ messages, tools, ...more })).content.at(-1).text, ANSWER)
  }

  return {
    async chat () {
      const answer = await create({ ...user('Hi'), system: 'Be brief.' })
      same([answer.content[0].text, answer.stop_reason, used(answer)], [ANSWER, 'end_turn', [NEW, CACHED, OUT]])
    },
    async stream () {
      const answer = await streamed(user('Hi'))
      same([answer.content[0].text, answer.stop_reason, used(answer)], [ANSWER, 'end_turn', [NEW, CACHED, OUT]])
    },
    loop: () => loop(create),
    streamed_loop: () => loop(streamed),
    reasoned_loop: () => loop(create, { thinking }),
    streamed_reasoned_loop: () => loop(streamed, { thinking }),
    async structured () {
      const answer = await create({ ...user('Weather as json'), output_config: { format: { type: 'json_schema', schema: SCHEMA } } })
      same(JSON.parse(answer.content[0].text), { city: 'Oslo', celsius: 3 })
    },
    async image () {
      const source = { type: 'base64', media_type: 'image/png', data: PNG }
      same((await create(user([{ type: 'image', source }, { type: 'text', text: 'What is it?' }]))).content[0].text, SEEN)
    },
    async reasoning () {
      for (const ask of [create, streamed]) {
        const [thought, text] = (await ask({ ...user('Hi'), thinking })).content
        same([thought.thinking, text.text], [THOUGHT, ANSWER])
      }
    },
    async errors () {
      await refused(Anthropic.NotFoundError, 'none', () => create({ ...user('Hi'), model: 'none' }))
      await refused(Anthropic.InternalServerError, 'overloaded', () => create(user('overload')))
      await refused(Anthropic.BadRequestError, 'no schema', () => create(user('as json')))
      const why = await refused(Anthropic.RateLimitError, 'too many', () => create(user('throttle')))
      same([why.headers.get('retry-after'), why.error.type], ['7', 'error'])
    },
    async breaks () {
      await refused(Anthropic.APIError, 'broke off', () => streamed(user('break off')))
    }
  }
}
