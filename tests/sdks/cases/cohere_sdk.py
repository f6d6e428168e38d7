"""`cohere`: v2/chat, and streams of it."""

import json

from judge import OUT, PNG, PROMPT, SCHEMA, SEEN, TOLD, TOOL, degrees, refused, same
from providers import ANSWER, THOUGHT

TOOLS = [{"type": "function", "function": {"name": "weather", "description": "The weather", "parameters": TOOL}}]


def cases(world, model):
    import cohere
    from cohere.core.api_error import ApiError

    client = cohere.ClientV2(base_url=world.url, api_key=world.key)
    once = {"max_retries": 0}
    user = lambda content: [{"role": "user", "content": content}]  # noqa: E731
    ask = lambda messages, **more: client.chat(model=model, messages=messages, request_options=once, **more)  # noqa: E731
    events = lambda messages, **more: list(client.chat_stream(model=model, messages=messages, request_options=once, **more))  # noqa: E731

    def text_of(answer):
        return "".join(part.text for part in answer.message.content or [] if part.type == "text")

    def chat():
        answer = ask(user("Hi"))
        same((text_of(answer), answer.finish_reason), (ANSWER, "COMPLETE"), answer)
        same((answer.usage.tokens.input_tokens, answer.usage.tokens.output_tokens), (PROMPT, OUT), answer)

    def stream():
        told = events(user("Hi"))
        same("".join(e.delta.message.content.text for e in told if e.type == "content-delta"), ANSWER, told)
        end = told[-1]
        same((end.type, end.delta.finish_reason, end.delta.usage.tokens.output_tokens), ("message-end", "COMPLETE", OUT), end)

    def loop():
        messages = user("The weather in both?")
        turn = ask(messages, tools=TOOLS)
        calls = turn.message.tool_calls
        same(([json.loads(call.function.arguments) for call in calls], turn.finish_reason), ([{"city": "Oslo"}, {"city": "Rome"}], "TOOL_CALL"), turn)
        results = [{"role": "tool", "tool_call_id": call.id, "content": degrees(json.loads(call.function.arguments)["city"])} for call in calls]
        messages += [turn.message, *results]
        same(text_of(ask(messages, tools=TOOLS)), TOLD)

    def streamed_loop():
        told, calls = events(user("The weather in both?"), tools=TOOLS), {}
        for event in told:
            if event.type == "tool-call-start":
                call = event.delta.message.tool_calls
                calls[event.index] = {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": call.function.arguments or ""}}
            if event.type == "tool-call-delta":
                calls[event.index]["function"]["arguments"] += event.delta.message.tool_calls.function.arguments
        calls = list(calls.values())
        same([json.loads(call["function"]["arguments"]) for call in calls], [{"city": "Oslo"}, {"city": "Rome"}], told)
        results = [{"role": "tool", "tool_call_id": call["id"], "content": degrees(json.loads(call["function"]["arguments"])["city"])} for call in calls]
        told = events([*user("The weather in both?"), {"role": "assistant", "tool_calls": calls}, *results], tools=TOOLS)
        same("".join(e.delta.message.content.text for e in told if e.type == "content-delta"), TOLD, told)

    def structured():
        answer = ask(user("Weather as json"), response_format={"type": "json_object", "json_schema": SCHEMA})
        same(json.loads(text_of(answer)), {"city": "Oslo", "celsius": 3}, answer)

    def image():
        content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]
        same(text_of(ask(user(content))), SEEN)

    def reasoning():
        answer = ask(user("Hi"), max_tokens=4096, thinking={"type": "enabled", "token_budget": 2048})
        thoughts = [part.thinking for part in answer.message.content if part.type == "thinking"]
        same((thoughts, text_of(answer)), ([THOUGHT], ANSWER), answer)

    def errors():
        with refused(cohere.NotFoundError, "none"):
            client.chat(model="none", messages=user("Hi"), request_options=once)
        with refused(cohere.TooManyRequestsError, "too many"):
            ask(user("throttle"))
        with refused(ApiError, "overloaded"):  # 503, or Anthropic's 529
            ask(user("overload"))
        with refused(cohere.BadRequestError, "no schema"):
            ask(user("as json"))

    return [chat, stream, loop, streamed_loop, structured, image, reasoning, errors]
