"""`openai`: chat completions, responses, embeddings, models."""

import json

from judge import CACHED, OUT, PNG, PROMPT, SCHEMA, SEEN, THOUGHTS, TOLD, TOOL, TOTAL, degrees, refused, same
from providers import ANSWER, THOUGHT
from world import MODELS

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": TOOL}}]


def cases(world, model):
    import openai

    client = openai.OpenAI(base_url=f"{world.url}/v1", api_key=world.key, max_retries=0)
    create, ask = client.chat.completions.create, lambda text: dict(model=model, messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}])

    def chat():
        answer = create(**ask("Hi"))
        same((answer.choices[0].message.content, answer.choices[0].finish_reason), (ANSWER, "stop"), answer)
        used = answer.usage
        same((used.prompt_tokens, used.prompt_tokens_details.cached_tokens, used.completion_tokens, used.total_tokens), (PROMPT, CACHED, OUT, TOTAL), answer)

    def stream():
        chunks = list(create(**ask("Hi"), stream=True, stream_options={"include_usage": True}))
        same("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), ANSWER, chunks)
        same((chunks[-1].usage.total_tokens, chunks[-1].usage.prompt_tokens_details.cached_tokens), (TOTAL, CACHED), chunks)
        plain = list(create(**ask("Hi"), stream=True))
        assert all(c.usage is None and c.choices for c in plain), plain

    def loop():
        """Two calls at once, their results, the answer to them, and a turn after that."""
        messages = ask("The weather in both?")["messages"]
        turn = create(model=model, messages=messages, tools=TOOLS).choices[0]
        same(([json.loads(call.function.arguments)["city"] for call in turn.message.tool_calls], turn.finish_reason), (["Oslo", "Rome"], "tool_calls"), turn)
        results = [{"role": "tool", "tool_call_id": call.id, "content": degrees(json.loads(call.function.arguments)["city"])} for call in turn.message.tool_calls]
        messages += [turn.message, *results]
        told = create(model=model, messages=messages, tools=TOOLS).choices[0].message
        same(told.content, TOLD, told)
        messages += [told, {"role": "user", "content": "Thanks"}]
        same(create(model=model, messages=messages, tools=TOOLS).choices[0].message.content, ANSWER)

    def streamed_loop():
        """The same from streams, and only what everyone keeps of a call: id, name, arguments."""
        messages = ask("The weather in both?")["messages"]
        with client.chat.completions.stream(model=model, messages=messages, tools=TOOLS) as events:
            calls = events.get_final_completion().choices[0].message.tool_calls
        plain = [{"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": call.function.arguments}} for call in calls]
        messages += [{"role": "assistant", "content": None, "tool_calls": plain}]
        messages += [{"role": "tool", "tool_call_id": call["id"], "content": degrees(json.loads(call["function"]["arguments"])["city"])} for call in plain]
        with client.chat.completions.stream(model=model, messages=messages, tools=TOOLS) as events:
            same(events.get_final_completion().choices[0].message.content, TOLD)

    def structured():
        form = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA, "strict": True}}
        answer = create(**ask("Weather as json"), response_format=form)
        same(json.loads(answer.choices[0].message.content), {"city": "Oslo", "celsius": 3}, answer)

    def image():
        content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]
        same(create(model=model, messages=[{"role": "user", "content": content}]).choices[0].message.content, SEEN)

    def reasoning():
        answer = create(**ask("Hi"), reasoning_effort="high")
        same((answer.choices[0].message.reasoning_content, answer.choices[0].message.content), (THOUGHT, ANSWER), answer)
        same((answer.usage.completion_tokens, answer.usage.total_tokens), (OUT, TOTAL), answer)
        if model in ("by-openai", "by-gemini"):  # The others do not tell.
            same(answer.usage.completion_tokens_details.reasoning_tokens, THOUGHTS, answer)
        chunks = list(create(**ask("Hi"), reasoning_effort="high", stream=True))
        same("".join(getattr(c.choices[0].delta, "reasoning_content", None) or "" for c in chunks if c.choices), THOUGHT, chunks)

    def reasoned_loop():
        """Thoughts before a call come back with the message as the SDK keeps it."""
        messages = ask("The weather?")["messages"]
        turn = create(model=model, messages=messages, tools=TOOLS, reasoning_effort="high").choices[0].message
        messages += [turn, {"role": "tool", "tool_call_id": turn.tool_calls[0].id, "content": degrees("Oslo")}]
        same(create(model=model, messages=messages, tools=TOOLS, reasoning_effort="high").choices[0].message.content, "They say: 3 in Oslo")

    def errors():
        with refused(openai.NotFoundError, "none"):
            create(**{**ask("Hi"), "model": "none"})
        with refused(openai.InternalServerError, "overloaded"):
            create(**ask("overload"))
        with refused(openai.BadRequestError, "no schema"):
            create(**ask("as json"))
        with refused(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{world.url}/v1", api_key="tg_wrong", max_retries=0).models.list()
        try:
            create(**ask("throttle"))
            raise AssertionError("it is no error")
        except openai.RateLimitError as why:
            same(why.response.headers["retry-after"], "7", why)

    def breaks():
        with refused(openai.APIError, "broke off"):
            list(create(**ask("break off"), stream=True))

    def models():
        assert {m.id for m in client.models.list()} >= set(MODELS)
        same(client.models.retrieve(model).id, model)

    def responses():
        answer = client.responses.create(model=model, input="Hi")
        same((answer.output_text, answer.usage.total_tokens, answer.usage.input_tokens_details.cached_tokens), (ANSWER, TOTAL, CACHED), answer)
        with client.responses.stream(model=model, input="Hi") as events:
            same(events.get_final_response().output_text, ANSWER)
        same(client.responses.create(model=model, input="Weather as json", text={"format": {"type": "json_schema", "name": "w", "schema": SCHEMA, "strict": True}}).output_text, '{"city":"Oslo","celsius":3}')
        thought = client.responses.create(model=model, input="Hi", reasoning={"effort": "high", "summary": "auto"}).output[0]
        same((thought.type, thought.summary[0].text), ("reasoning", THOUGHT), thought)

    def responses_loop():
        tools = [{"type": "function", "name": "weather", "parameters": TOOL, "strict": True}]
        items = [{"role": "user", "content": "The weather in both?"}]
        with client.responses.stream(model=model, input=items, tools=tools) as events:
            answer = events.get_final_response()
        calls = [item for item in answer.output if item.type == "function_call"]
        same([json.loads(call.arguments)["city"] for call in calls], ["Oslo", "Rome"], answer)
        items += answer.output
        items += [{"type": "function_call_output", "call_id": call.call_id, "output": degrees(json.loads(call.arguments)["city"])} for call in calls]
        same(client.responses.create(model=model, input=items, tools=tools).output_text, TOLD)

    def responses_broken():
        with refused(Exception, "broke off"):
            for event in client.responses.create(model=model, input="break off", stream=True):
                if event.type in ("error", "response.failed"):
                    raise openai.OpenAIError(str(event))

    def embeddings():
        same(client.embeddings.create(model=model, input="x", encoding_format="float").data[0].embedding, [0.5, 0.25])

    every = [chat, stream, loop, streamed_loop, structured, image, reasoning, reasoned_loop, errors, breaks, models, responses, responses_loop, responses_broken]
    return [*every, embeddings] if model == "by-openai" else every
