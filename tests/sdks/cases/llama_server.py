"""A real llama.cpp server behind the node, asked with real SDKs; what its usage says stands in our access log."""

from judge import same


def cases(world, _model):
    import anthropic
    import openai

    client = openai.OpenAI(base_url=f"{world.url}/v1", api_key=world.key, max_retries=0)
    ask = lambda most: dict(model="by-llama", messages=[{"role": "user", "content": "hello"}], max_tokens=most, temperature=0)  # noqa: E731

    def told(stream, dialect, output):
        wanted = (stream, dialect, output)
        return world.logged(lambda llm: (bool(llm.get("stream")), llm.get("dialect"), llm.get("output_tokens")) == wanted and llm["model"] == "by-llama")

    def meters(log):
        """All classes of the prompt together: some of it may come from llama.cpp's own cache."""
        assert not log.get("estimated"), log
        return (log["input_tokens"] + log.get("cache_read_tokens", 0), log["output_tokens"], log["finish"])

    def chat():
        answer = client.chat.completions.create(**ask(7))
        same((answer.usage.completion_tokens, answer.choices[0].finish_reason), (7, "length"), answer)
        same(meters(told(False, "openai_chat", 7)), (answer.usage.prompt_tokens, 7, "length"))

    def stream():
        chunks = list(client.chat.completions.create(**ask(9), stream=True))
        assert sum(bool(c.choices[0].delta.content) for c in chunks) >= 1 and all(c.usage is None for c in chunks), chunks
        prompt = client.chat.completions.create(**ask(1)).usage.prompt_tokens
        same(meters(told(True, "openai_chat", 9)), (prompt, 9, "length"))

    def translated():
        client = anthropic.Anthropic(base_url=world.url, api_key=world.key, max_retries=0)
        with client.messages.stream(model="by-llama", max_tokens=11, messages=[{"role": "user", "content": "hello"}], extra_body={"temperature": 0}) as events:
            answer = events.get_final_message()
        same((answer.usage.output_tokens, answer.stop_reason), (11, "max_tokens"), answer)
        prompt = answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0)
        same(meters(told(True, "anthropic", 11)), (prompt, 11, "length"))

    return [chat, stream, translated]
