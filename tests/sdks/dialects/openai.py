"""OpenAI's chat completions, as a reasoning model of theirs takes them (with DeepSeek's `reasoning_content`)."""

import json

from providers import CACHED, NEW, OUT, THOUGHTS, Heard, Wrong, event, size_of

STREAM, OVERLOADED = "text/event-stream", 503


def hear(call, _path, _headers):
    if "max_tokens" in call or "temperature" in call:
        raise Wrong("Unsupported parameter: use 'max_completion_tokens', and no temperature, with this model")
    messages = call["messages"]
    for at, message in enumerate(messages):
        ids = [tool["id"] for tool in message.get("tool_calls") or []]
        if message["role"] == "assistant" and not ids and not message.get("content"):
            raise Wrong("assistant: content or tool_calls")
        if ids and {m.get("tool_call_id") for m in messages[at + 1 : at + 1 + len(ids)]} != set(ids):
            raise Wrong("tool_calls must be followed by tool messages responding to each tool_call_id")
        for tool in message.get("tool_calls") or []:
            json.loads(tool["function"]["arguments"])
    heard = Heard(stream=bool(call.get("stream")), thinks=call.get("reasoning_effort", "none") not in ("none", "minimal"))
    if heard.stream and not (call.get("stream_options") or {}).get("include_usage"):
        raise Wrong("the gateway did not ask for usage")
    heard.schema = ((call.get("response_format") or {}).get("json_schema") or {}).get("schema")
    heard.tools = [tool["function"]["name"] for tool in call.get("tools") or []]
    heard.results = [text_of(m["content"]) for m in tail(messages) if m["role"] == "tool"]
    last = messages[-1]["content"]
    heard.text = text_of(last)
    for part in last if isinstance(last, list) else []:
        if part["type"] == "image_url":
            head, data = part["image_url"]["url"].split(",", 1)
            heard.images.append((head.removeprefix("data:").removesuffix(";base64"), size_of(data)))
    return heard


def tail(messages):
    """From the last message that is no tool's."""
    last = max((at for at, m in enumerate(messages) if m["role"] != "tool"), default=-1)
    return messages[last + 1 :]


def text_of(content):
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content or [])


def usage(said):
    return {"prompt_tokens": NEW + CACHED, "completion_tokens": OUT, "total_tokens": NEW + CACHED + OUT, "prompt_tokens_details": {"cached_tokens": CACHED},
            "completion_tokens_details": {"reasoning_tokens": THOUGHTS if said.thought else 0}}


def calls(said):
    return [{"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": json.dumps(args)}} for n, name, args in said.calls]


def answer(call, said):
    message = {"role": "assistant", "content": said.text or None, **({"tool_calls": calls(said)} if said.calls else {})}
    if said.thought:
        message["reasoning_content"] = said.thought
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if said.calls else "stop"}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": call["model"], "choices": [choice], "usage": usage(said)}


def stream(call, said):
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": call["model"]}
    deltas = [{"role": "assistant", "content": ""}] + [{"reasoning_content": part} for part in (said.thought[:4], said.thought[4:]) if part]
    deltas += [{"content": part} for part in said.pieces]
    for at, tool in enumerate(calls(said)):
        text = tool["function"]["arguments"]
        deltas.append({"tool_calls": [{**tool, "index": at, "function": {"name": "weather", "arguments": ""}}]})
        deltas += [{"tool_calls": [{"index": at, "function": {"arguments": part}}]} for part in (text[:5], text[5:])]
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": None} for delta in deltas]
    if said.breaks:
        return [event(c) for c in chunks[:-1]] + [event({"error": {"message": "it broke off", "type": "server_error", "param": None, "code": None}})]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls" if said.calls else "stop"}], "usage": None})
    chunks.append({**head, "choices": [], "usage": usage(said)})
    return [event(chunk) for chunk in chunks] + [event("[DONE]")]


def error(status, message):
    kind = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}.get(status, "server_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}, {}
