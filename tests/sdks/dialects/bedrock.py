"""Bedrock's Converse with one of Anthropic's models: binary frames with checksums, usage after the stop."""

import json
import struct
import zlib

from providers import CACHED, NEW, OUT, Heard, Wrong, size_of

STREAM, OVERLOADED = "application/vnd.amazon.eventstream", 503
SIGNED = "c2lnbmVkLWJ5LWJlZHJvY2s="


def hear(call, path, _headers):
    thinking = (call.get("additionalModelRequestFields") or {}).get("thinking") or {}
    most = (call.get("inferenceConfig") or {}).get("maxTokens", 64_000)  # by default what the model can
    heard = Heard(stream=path.endswith("-stream"), thinks=thinking.get("type") == "enabled")
    if heard.thinks and not 1024 <= thinking["budget_tokens"] < most:
        raise Wrong("max_tokens must be greater than thinking.budget_tokens")
    heard.schema = schema(call)
    heard.tools = [tool["toolSpec"]["name"] for tool in (call.get("toolConfig") or {}).get("tools", []) if "toolSpec" in tool]
    messages = call["messages"]
    if any(b for m in messages for b in m["content"] if "toolUse" in b or "toolResult" in b) and not heard.tools:
        raise Wrong("The toolConfig field must be defined when using toolUse and toolResult content blocks.")
    for at, message in enumerate(messages):
        asked = [block["toolUse"]["toolUseId"] for block in message["content"] if "toolUse" in block]
        told = [b["toolResult"]["toolUseId"] for b in messages[at + 1]["content"] if "toolResult" in b] if asked and at + 1 < len(messages) else []
        if sorted(asked) != sorted(told):
            raise Wrong("Expected toolResult blocks for the toolUse ids of the turn before")
        if asked and heard.thinks and at == len(messages) - 2 and "reasoningContent" not in message["content"][0]:
            raise Wrong("Expected `thinking` or `redacted_thinking` before tool_use")
    for block in messages[-1]["content"]:
        heard.text += block.get("text", "")
        if "image" in block:
            heard.images.append((f"image/{block['image']['format']}", size_of(block["image"]["source"]["bytes"])))
        if "toolResult" in block:
            heard.results.append("".join(part.get("text") or json.dumps(part.get("json")) for part in block["toolResult"]["content"]))
    return heard


def schema(call):
    form = ((call.get("outputConfig") or {}).get("textFormat") or {}).get("structure") or {}
    text = (form.get("jsonSchema") or {}).get("schema")
    return json.loads(text) if isinstance(text, str) else text


def blocks(said):
    found = [{"reasoningContent": {"reasoningText": {"text": said.thought, "signature": SIGNED}}}] if said.thought else []
    found += [{"text": said.text}] if said.text else []
    return found + [{"toolUse": {"toolUseId": f"tooluse_{n}", "name": name, "input": args}} for n, name, args in said.calls]


def usage():
    return {"inputTokens": NEW, "outputTokens": OUT, "totalTokens": NEW + CACHED + OUT, "cacheReadInputTokens": CACHED, "cacheWriteInputTokens": 0}


def answer(_call, said):
    return {"output": {"message": {"role": "assistant", "content": blocks(said)}}, "stopReason": "tool_use" if said.calls else "end_turn", "usage": usage(), "metrics": {"latencyMs": 1}}


def stream(_call, said):
    frames = [frame("messageStart", {"role": "assistant"})]
    for at, block in enumerate(blocks(said)):
        if "toolUse" in block:
            call, text = block["toolUse"], json.dumps(block["toolUse"]["input"])
            frames.append(frame("contentBlockStart", {"contentBlockIndex": at, "start": {"toolUse": {"toolUseId": call["toolUseId"], "name": call["name"]}}}))
            deltas = [{"toolUse": {"input": part}} for part in (text[:5], text[5:])]
        elif "text" in block:
            deltas = [{"text": part} for part in said.pieces]
        else:
            deltas = [{"reasoningContent": {"text": said.thought}}, {"reasoningContent": {"signature": SIGNED}}]
        frames += [frame("contentBlockDelta", {"contentBlockIndex": at, "delta": delta, "p": "abcdefgh"[:at]}) for delta in deltas]
        frames.append(frame("contentBlockStop", {"contentBlockIndex": at}))
    if said.breaks:
        return [*frames[:-2], frame("modelStreamErrorException", {"message": "it broke off"}, "exception")]
    return [*frames, frame("messageStop", {"stopReason": "tool_use" if said.calls else "end_turn"}), frame("metadata", {"usage": usage(), "metrics": {"latencyMs": 1}})]


def frame(name, value, kind="event"):
    head = {f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}
    headers = b"".join(struct.pack(">B", len(k)) + k.encode() + b"\x07" + struct.pack(">H", len(v)) + v.encode() for k, v in head.items())
    body = json.dumps(value).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    prelude += struct.pack(">I", zlib.crc32(prelude))
    whole = prelude + headers + body
    return whole + struct.pack(">I", zlib.crc32(whole))


def error(status, message):
    name = {400: "ValidationException", 401: "UnrecognizedClientException", 429: "ThrottlingException", 503: "ServiceUnavailableException"}[status]
    return {"message": message}, {"x-amzn-errortype": name}
