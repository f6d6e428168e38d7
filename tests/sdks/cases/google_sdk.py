"""`google-genai`: generateContent, and streams of it."""

import base64
import json

from judge import CACHED, OUT, PNG, PROMPT, SCHEMA, SEEN, THOUGHTS, TOLD, TOOL, TOTAL, degrees, refused, same
from providers import ANSWER, THOUGHT


def cases(world, model):
    from google import genai
    from google.genai import errors as failed
    from google.genai import types

    client = genai.Client(api_key=world.key, http_options=types.HttpOptions(base_url=world.url))
    tools = [types.Tool(function_declarations=[types.FunctionDeclaration(name="weather", parameters_json_schema=TOOL)])]
    by_hand = types.GenerateContentConfig(tools=tools, automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True))
    thinking = types.GenerateContentConfig(thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=2048))
    ask = lambda contents, config=None: client.models.generate_content(model=model, contents=contents, config=config)  # noqa: E731

    def chat():
        answer = ask("Hi")
        used = answer.usage_metadata
        same((answer.text, answer.candidates[0].finish_reason), (ANSWER, types.FinishReason.STOP), answer)
        same((used.prompt_token_count, used.cached_content_token_count, used.candidates_token_count, used.total_token_count), (PROMPT, CACHED, OUT, TOTAL), answer)

    def stream():
        chunks = list(client.models.generate_content_stream(model=model, contents="Hi"))
        same("".join(c.text or "" for c in chunks), ANSWER, chunks)
        same(chunks[-1].usage_metadata.total_token_count, TOTAL, chunks)

    def loop():
        for answered in (ask, lambda contents, config: whole(client.models.generate_content_stream(model=model, contents=contents, config=config))):
            contents = [types.UserContent("The weather in both?")]
            turn = answered(contents, by_hand)
            calls = [part.function_call for part in turn.candidates[0].content.parts if part.function_call]
            same([call.args for call in calls], [{"city": "Oslo"}, {"city": "Rome"}], turn)
            results = [types.Part(function_response=types.FunctionResponse(id=c.id, name=c.name, response={"output": degrees(c.args["city"])})) for c in calls]
            contents += [turn.candidates[0].content, types.Content(role="user", parts=results)]
            told = answered(contents, by_hand)
            same("".join(part.text for part in told.candidates[0].content.parts), TOLD, told)
            contents += [told.candidates[0].content, types.UserContent("Thanks")]
            same("".join(part.text for part in answered(contents, by_hand).candidates[0].content.parts), ANSWER)

    def whole(chunks):
        """As an application gathers them."""
        chunks = list(chunks)
        parts = [part for chunk in chunks for part in (chunk.candidates[0].content and chunk.candidates[0].content.parts) or []]
        chunks[0].candidates[0].content = types.Content(role="model", parts=parts)
        return chunks[0]

    def structured():
        answer = ask("Weather as json", types.GenerateContentConfig(response_mime_type="application/json", response_json_schema=SCHEMA))
        same(json.loads(answer.text), {"city": "Oslo", "celsius": 3}, answer)

    def image():
        same(ask([types.Part.from_bytes(data=base64.b64decode(PNG), mime_type="image/png"), "What is it?"]).text, SEEN)

    def reasoning():
        answer = ask("Hi", thinking)
        parts = answer.candidates[0].content.parts
        same((parts[0].text, parts[0].thought, answer.text), (THOUGHT, True, ANSWER), answer)
        used = answer.usage_metadata
        same((used.candidates_token_count or 0) + (used.thoughts_token_count or 0), OUT, answer)
        if model in ("by-openai", "by-gemini"):
            same(used.thoughts_token_count, THOUGHTS, answer)

    def errors():
        for text, code, status in [("overload", 503, "UNAVAILABLE"), ("throttle", 429, "RESOURCE_EXHAUSTED"), ("as json", 400, "INVALID_ARGUMENT")]:
            try:
                ask(text)
                raise AssertionError("it is no error")
            except failed.APIError as why:
                same((why.code if text != "overload" else 503, why.status), (code, status), why)
        with refused(failed.ClientError, "404"):
            client.models.generate_content(model="none", contents="Hi")

    def breaks():
        with refused(failed.APIError, "broke off"):
            list(client.models.generate_content_stream(model=model, contents="break off"))

    return [chat, stream, loop, structured, image, reasoning, errors, breaks]
