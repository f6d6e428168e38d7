"""Anthropic's messages. Thoughts are signed, and must stand before the calls they led to."""

import json

from providers import CACHED, NEW, OUT, Heard, Wrong, event, size_of

STREAM, OVERLOADED = "text/event-stream", 529
SIGNED = "c2lnbmVkLWJ5LWFudGhyb3BpYw=="


def hear(call, _path, headers):
    if "anthropic-version" not in headers or not isinstance(call.get("max_tokens"), int):
        raise Wrong("max_tokens: Field required; anthropic-version: header is required")
    thinking = call.get("thinking") or {}
    thinks = thinking.get("type") == "enabled"
    if thinks and not 1024 <= thinking["budget_tokens"] < call["max_tokens"]:
        raise Wrong("`max_tokens` must be greater than `thinking.budget_tokens`, which is at least 1024")
    messages = [{**m, "content": [{"type": "text", "text": m["content"]}] if isinstance(m["content"], str) else m["content"]} for m in call["messages"]]
    if messages[0]["role"] != "user" or any(not m["content"] for m in messages):
        raise Wrong("messages: first must be user's, all must have content")
    judge(messages, thinks)
    heard = Heard(stream=bool(call.get("stream")), thinks=thinks)
    heard.tools = [tool["name"] for tool in call.get("tools") or []]
    heard.schema = ((call.get("output_config") or {}).get("format") or {}).get("schema")
    for block in messages[-1]["content"]:
        if block["type"] == "text":
            heard.text += block["text"]
        elif block["type"] == "image":
            heard.images.append((block["source"]["media_type"], size_of(block["source"]["data"])))
        elif block["type"] == "tool_result":
            content = block["content"]
            heard.results.append(content if isinstance(content, str) else "".join(part.get("text", "") for part in content))
    return heard


def judge(messages, thinks):
    for at, message in enumerate(messages):
        asked = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
        told = [b["tool_use_id"] for b in messages[at + 1]["content"] if b["type"] == "tool_result"] if asked and at + 1 < len(messages) else []
        if sorted(asked) != sorted(told):
            raise Wrong("`tool_use` ids were found without `tool_result` blocks immediately after")
        if asked and thinks and at == len(messages) - 2 and message["content"][0]["type"] not in ("thinking", "redacted_thinking"):
            raise Wrong(f"Expected `thinking` or `redacted_thinking`, but found `{message['content'][0]['type']}`")
        for block in message["content"]:
            if block["type"] == "thinking" and block["signature"] != SIGNED:
                raise Wrong("Invalid `signature` in `thinking` block")
            if block["type"] == "tool_use" and not isinstance(block["input"], dict):
                raise Wrong("tool_use.input: Input should be a valid dictionary")


def blocks(said):
    found = [{"type": "thinking", "thinking": said.thought, "signature": SIGNED}] if said.thought else []
    found += [{"type": "text", "text": said.text}] if said.text else []
    return found + [{"type": "tool_use", "id": f"toolu_{n}", "name": name, "input": args} for n, name, args in said.calls]


def answer(call, said):
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": call["model"], "content": blocks(said), "stop_sequence": None, "stop_reason": "tool_use" if said.calls else "end_turn",
            "usage": {"input_tokens": NEW, "cache_read_input_tokens": CACHED, "cache_creation_input_tokens": 0, "output_tokens": OUT}}


def stream(call, said):
    whole = answer(call, said)
    events = [{"type": "message_start", "message": {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}}, {"type": "ping"}]
    for at, block in enumerate(blocks(said)):
        start, deltas = pieces(block, said)
        events.append({"type": "content_block_start", "index": at, "content_block": start})
        events += [{"type": "content_block_delta", "index": at, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": at})
    if said.breaks:
        events = [*events[:-2], {"type": "error", "error": {"type": "overloaded_error", "message": "it broke off"}}]
    else:
        events.append({"type": "message_delta", "delta": {"stop_reason": whole["stop_reason"], "stop_sequence": None}, "usage": {"output_tokens": OUT}})
        events.append({"type": "message_stop"})
    return [event(value, value["type"]) for value in events]


def pieces(block, said):
    if block["type"] == "thinking":
        return {**block, "thinking": "", "signature": ""}, [{"type": "thinking_delta", "thinking": block["thinking"]}, {"type": "signature_delta", "signature": SIGNED}]
    if block["type"] == "text":
        return {**block, "text": ""}, [{"type": "text_delta", "text": part} for part in said.pieces]
    text = json.dumps(block["input"])
    return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in ("", text[:5], text[5:])]


def error(status, message):
    kind = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}[status]
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}, {}
