"""`anthropic`: messages and models."""

from judge import CACHED, NEW, OUT, PNG, SCHEMA, SEEN, TOLD, TOOL, degrees, refused, same
from providers import ANSWER, THOUGHT
from world import MODELS

TOOLS = [{"name": "weather", "input_schema": TOOL}]
THINKING = {"type": "enabled", "budget_tokens": 2048}


def cases(world, model):
    import anthropic

    client = anthropic.Anthropic(base_url=world.url, api_key=world.key, max_retries=0)
    ask = lambda text, **more: dict(model=model, max_tokens=4096, messages=[{"role": "user", "content": text}], **more)  # noqa: E731

    def used(answer):
        return (answer.usage.input_tokens, answer.usage.cache_read_input_tokens, answer.usage.output_tokens)

    def chat():
        answer = client.messages.create(**ask("Hi", system="Be brief."))
        same((answer.content[0].text, answer.stop_reason), (ANSWER, "end_turn"), answer)
        same(used(answer), (NEW, CACHED, OUT), answer)

    def stream():
        with client.messages.stream(**ask("Hi")) as events:
            same("".join(events.text_stream), ANSWER)
            same(used(events.get_final_message()), (NEW, CACHED, OUT))

    def loop():
        messages = ask("The weather in both?")["messages"]
        for streamed in (False, True):
            turn = finished(messages, streamed)
            calls = [block for block in turn.content if block.type == "tool_use"]
            same(([call.input for call in calls], turn.stop_reason), ([{"city": "Oslo"}, {"city": "Rome"}], "tool_use"), turn)
            results = [{"type": "tool_result", "tool_use_id": call.id, "content": degrees(call.input["city"])} for call in calls]
            told = finished([*messages, {"role": "assistant", "content": turn.content}, {"role": "user", "content": results}], streamed)
            same(told.content[0].text, TOLD, told)
            more = [*messages, {"role": "assistant", "content": turn.content}, {"role": "user", "content": results}, {"role": "assistant", "content": told.content}]
            same(finished([*more, {"role": "user", "content": "Thanks"}], streamed).content[0].text, ANSWER)

    def finished(messages, streamed, **more):
        call = dict(model=model, max_tokens=4096, messages=messages, tools=TOOLS, **more)
        if not streamed:
            return client.messages.create(**call)
        with client.messages.stream(**call) as events:
            return events.get_final_message()

    def structured():
        answer = client.messages.create(**ask("Weather as json", output_config={"format": {"type": "json_schema", "schema": SCHEMA}}))
        same(answer.content[0].text, '{"city":"Oslo","celsius":3}', answer)

    def image():
        source = {"type": "base64", "media_type": "image/png", "data": PNG}
        same(client.messages.create(**ask([{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}])).content[0].text, SEEN)

    def reasoning():
        answer = client.messages.create(**ask("Hi", thinking=THINKING))
        same((answer.content[0].thinking, answer.content[1].text, used(answer)), (THOUGHT, ANSWER, (NEW, CACHED, OUT)), answer)
        with client.messages.stream(**ask("Hi", thinking=THINKING)) as events:
            same(events.get_final_message().content[0].thinking, THOUGHT)

    def reasoned_loop():
        messages = ask("The weather?")["messages"]
        for streamed in (False, True):
            turn = finished(messages, streamed, thinking=THINKING)
            result = {"type": "tool_result", "tool_use_id": turn.content[-1].id, "content": degrees("Oslo")}
            told = finished([*messages, {"role": "assistant", "content": turn.content}, {"role": "user", "content": [result]}], streamed, thinking=THINKING)
            same(told.content[-1].text, "They say: 3 in Oslo", told)

    def errors():
        with refused(anthropic.NotFoundError, "none"):
            client.messages.create(**{**ask("Hi"), "model": "none"})
        with refused(anthropic.InternalServerError, "overloaded"):
            client.messages.create(**ask("overload"))
        with refused(anthropic.BadRequestError, "no schema"):
            client.messages.create(**ask("as json"))
        with refused(anthropic.AuthenticationError):
            anthropic.Anthropic(base_url=world.url, api_key="tg_wrong", max_retries=0).messages.create(**ask("Hi"))
        try:
            client.messages.create(**ask("throttle"))
            raise AssertionError("it is no error")
        except anthropic.RateLimitError as why:
            same((why.response.headers["retry-after"], why.body["type"]), ("7", "error"), why)

    def breaks():
        with refused(anthropic.APIStatusError, "broke off"):
            with client.messages.stream(**ask("break off")) as events:
                events.get_final_message()

    def models():
        assert {m.id for m in client.models.list()} >= set(MODELS)

    return [chat, stream, loop, structured, image, reasoning, reasoned_loop, errors, breaks, models]
