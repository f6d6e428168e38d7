"""Gemini's generateContent, as its third generation takes it: a call of a tool comes back with its thought signature."""

import base64

from providers import CACHED, NEW, OUT, THOUGHTS, Heard, Wrong, event, size_of

STREAM, OVERLOADED = "text/event-stream", 503
SIGNED = base64.b64encode(b"signed by gemini").decode()
UNSIGNED = "skip_thought_signature_validator"


def hear(call, path, _headers):
    call = camel(call)
    stream = ":streamGenerateContent" in path
    if stream and "alt=sse" not in path:
        raise Wrong("ask for events: alt=sse")
    contents, config = call["contents"], call.get("generationConfig") or {}
    heard = Heard(stream=stream, thinks=bool((config.get("thinkingConfig") or {}).get("includeThoughts")))
    heard.schema = config.get("responseJsonSchema") or config.get("responseSchema")
    heard.tools = [f["name"] for tool in call.get("tools") or [] for f in tool.get("functionDeclarations", [])]
    for at, content in enumerate(contents):
        calls = [part for part in content["parts"] if "functionCall" in part]
        if content.get("role", "user") not in ("user", "model"):
            raise Wrong("Please use a valid role: user, model.")
        if calls and calls[0].get("thoughtSignature") not in (SIGNED, UNSIGNED):
            raise Wrong("Function call is missing a thought_signature in functionCall parts")
        told = [part["functionResponse"]["name"] for part in contents[at + 1]["parts"] if "functionResponse" in part] if calls and at + 1 < len(contents) else []
        if told != [part["functionCall"]["name"] for part in calls]:
            raise Wrong("the number of function response parts must equal the number of function call parts")
    for part in contents[-1]["parts"]:
        heard.text += part.get("text", "")
        if "inlineData" in part:
            heard.images.append((part["inlineData"]["mimeType"], size_of(part["inlineData"]["data"].replace("-", "+").replace("_", "/"))))
        if "functionResponse" in part:
            response = part["functionResponse"]["response"]
            heard.results.append(str(response.get("output", response.get("result", response))))
    return heard


def camel(value):
    """Google's API takes every name in both spellings, and its SDK writes some in each; names of our own are left alone."""
    own = ("args", "response", "parametersJsonSchema", "responseJsonSchema", "properties")
    if isinstance(value, list):
        return [camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    names = {name: name.split("_")[0] + "".join(word.title() for word in name.split("_")[1:]) for name in value}
    return {names[name]: item if names[name] in own else camel(item) for name, item in value.items()}


def parts(said):
    found = [{"text": said.thought, "thought": True}] if said.thought else []
    found += [{"text": piece} for piece in said.pieces]
    for n, name, args in said.calls:
        found.append({"functionCall": {"id": f"fn_{n}", "name": name, "args": args}, **({"thoughtSignature": SIGNED} if n == "0" else {})})
    return found


def response(call, found, said, last):
    candidate = {"content": {"role": "model", "parts": found}, "index": 0, **({"finishReason": "STOP"} if last else {})}
    thoughts = THOUGHTS if said.thought else 0
    usage = {"promptTokenCount": NEW + CACHED, "cachedContentTokenCount": CACHED, "totalTokenCount": NEW + CACHED + OUT, "candidatesTokenCount": OUT - thoughts,
             **({"thoughtsTokenCount": thoughts} if thoughts else {})}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-3-real", "responseId": "resp1"}


def answer(call, said):
    found = [part for part in parts(said) if not (said.text and "text" in part and not part.get("thought"))]
    return response(call, [*found, *([{"text": said.text}] if said.text else [])], said, True)


def stream(call, said):
    found = parts(said)
    chunks = [response(call, [part], said, at + 1 == len(found) and not said.breaks) for at, part in enumerate(found)]
    if said.breaks:
        chunks = [*chunks[:-1], {"error": {"code": 503, "message": "it broke off", "status": "UNAVAILABLE"}}]
    return [event(chunk) for chunk in chunks]


def error(status, message):
    name = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}[status]
    return {"error": {"code": status, "message": message, "status": name}}, {}
