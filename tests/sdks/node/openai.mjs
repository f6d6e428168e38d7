// `openai`: chat completions, responses, models.

import OpenAI from 'openai'

import { ANSWER, CACHED, NEW, OUT, PNG, SCHEMA, SEEN, THOUGHT, TOLD, TOOL, TOTAL, all, degrees, refused, same } from './judge.mjs'

const tools = [{ type: 'function', function: { name: 'weather', parameters: TOOL } }]
const flat = [{ type: 'function', name: 'weather', parameters: TOOL, strict: true }]
const format = { type: 'json_schema', json_schema: { name: 'weather', schema: SCHEMA, strict: true } }
const argument = call => JSON.parse(call.function.arguments)
const user = content => ({ messages: [{ role: 'user', content }] })

export default function cases (url, key, model) {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 })
  const create = more => client.chat.completions.create({ model, ...more })
  const streamed = more => client.chat.completions.stream({ model, ...more }).finalChatCompletion()

  async function loop (create) {
    const { messages } = user('The weather in both?')
    const turn = (await create({ messages, tools })).choices[0].message
    same(turn.tool_calls.map(argument), [{ city: 'Oslo' }, { city: 'Rome' }])
    messages.push(turn, ...turn.tool_calls.map(call => ({ role: 'tool', tool_call_id: call.id, content: degrees(argument(call)) })))
    const told = (await create({ messages, tools })).choices[0].message
    same(told.content, TOLD)
    messages.push(told, { role: 'user', content: 'Thanks' })
    same((await create({ messages, tools })).choices[0].message.content, ANSWER)
  }

  return {
    async chat () {
      const { choices, usage } = await create(user('Hi'))
      same([choices[0].message.content, choices[0].finish_reason], [ANSWER, 'stop'])
      same([usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens, usage.completion_tokens, usage.total_tokens], [NEW + CACHED, CACHED, OUT, TOTAL])
    },
    async stream () {
      const chunks = await all(await create({ ...user('Hi'), stream: true, stream_options: { include_usage: true } }))
      same(chunks.map(chunk => chunk.choices[0]?.delta.content ?? '').join(''), ANSWER)
      same(chunks.at(-1).usage.total_tokens, TOTAL)
      const plain = await all(await create({ ...user('Hi'), stream: true }))
      same(plain.filter(chunk => chunk.usage || !chunk.choices.length), [])
    },
    loop: () => loop(create),
    streamed_loop: () => loop(streamed),
    async structured () {
      const { choices } = await client.chat.completions.parse({ model, ...user('Weather as json'), response_format: format })
      same(choices[0].message.parsed ?? JSON.parse(choices[0].message.content), { city: 'Oslo', celsius: 3 })
    },
    async image () {
      const content = [{ type: 'text', text: 'What is it?' }, { type: 'image_url', image_url: { url: `data:image/png;base64,${PNG}` } }]
      same((await create(user(content))).choices[0].message.content, SEEN)
    },
    async reasoning () {
      const { choices } = await create({ ...user('Hi'), reasoning_effort: 'high' })
      same([choices[0].message.reasoning_content, choices[0].message.content], [THOUGHT, ANSWER])
      const chunks = await all(await create({ ...user('Hi'), reasoning_effort: 'high', stream: true }))
      same(chunks.map(chunk => chunk.choices[0]?.delta.reasoning_content ?? '').join(''), THOUGHT)
    },
    async responses () {
      const answer = await client.responses.create({ model, input: 'Hi' })
      same([answer.output_text, answer.usage.total_tokens], [ANSWER, TOTAL])
      same((await client.responses.stream({ model, input: 'Hi' }).finalResponse()).output_text, ANSWER)
    },
    async responses_loop () {
      const input = [{ role: 'user', content: 'The weather in both?' }]
      const { output } = await client.responses.stream({ model, input, tools: flat }).finalResponse()
      const calls = output.filter(item => item.type === 'function_call')
      input.push(...output, ...calls.map(call => ({ type: 'function_call_output', call_id: call.call_id, output: degrees(JSON.parse(call.arguments)) })))
      same((await client.responses.create({ model, input, tools: flat })).output_text, TOLD)
    },
    async errors () {
      await refused(OpenAI.NotFoundError, 'none', () => create({ ...user('Hi'), model: 'none' }))
      await refused(OpenAI.InternalServerError, 'overloaded', () => create(user('overload')))
      await refused(OpenAI.BadRequestError, 'no schema', () => create(user('as json')))
      const why = await refused(OpenAI.RateLimitError, 'too many', () => create(user('throttle')))
      same(why.headers.get('retry-after'), '7')
      const other = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'tg_wrong', maxRetries: 0 })
      await refused(OpenAI.AuthenticationError, '', () => other.models.list())
    },
    async breaks () {
      await refused(OpenAI.APIError, 'broke off', async () => all(await create({ ...user('break off'), stream: true })))
    },
    async models () {
      same((await all(client.models.list())).some(({ id }) => id === model), true)
    }
  }
}
