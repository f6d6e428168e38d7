"""OpenAI's Responses API."""

import json

from dialects import openai
from providers import CACHED, NEW, OUT, THOUGHTS, Heard, Wrong, event, size_of

STREAM, OVERLOADED, error = openai.STREAM, openai.OVERLOADED, openai.error


def hear(call, _path, _headers):
    items = call["input"] if isinstance(call["input"], list) else [{"role": "user", "content": call["input"]}]
    heard = Heard(stream=bool(call.get("stream")), thinks=bool((call.get("reasoning") or {}).get("effort")))
    heard.tools = [tool["name"] for tool in call.get("tools") or []]
    heard.schema = ((call.get("text") or {}).get("format") or {}).get("schema")
    asked = {item["call_id"] for item in items if item.get("type") == "function_call"}
    for item in items:
        if item.get("type") == "function_call_output":
            if item["call_id"] not in asked:
                raise Wrong("No tool call found for function call output")
            heard.results.append(item["output"] if isinstance(item["output"], str) else item["output"][0]["text"])
    content = items[-1].get("content") or ""
    heard.text = openai.text_of(content)
    if heard.text:
        heard.results = []
    for part in content if isinstance(content, list) else []:
        if part["type"] == "input_image":
            head, data = part["image_url"].split(",", 1)
            heard.images.append((head.removeprefix("data:").removesuffix(";base64"), size_of(data)))
    return heard


def output(said):
    items = []
    if said.thought:
        items.append({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": said.thought}]})
    if said.text:
        part = {"type": "output_text", "text": said.text, "annotations": []}
        items.append({"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [part]})
    for n, name, args in said.calls:
        items.append({"type": "function_call", "id": f"fc_{n}", "call_id": f"call_{n}", "name": name, "arguments": json.dumps(args), "status": "completed"})
    return items


def answer(call, said, status="completed"):
    done = status == "completed"
    usage = {"input_tokens": NEW + CACHED, "output_tokens": OUT, "total_tokens": NEW + CACHED + OUT, "input_tokens_details": {"cached_tokens": CACHED},
             "output_tokens_details": {"reasoning_tokens": THOUGHTS if said.thought else 0}}
    return {"id": "resp_1", "object": "response", "created_at": 1, "status": status, "model": call["model"], "output": output(said) if done else [],
            "usage": usage if done else None, "error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "tools": [], "tool_choice": "auto",
            "parallel_tool_calls": True, "temperature": 1, "top_p": 1}


def stream(call, said):
    events = [{"type": kind, "response": answer(call, said, "in_progress")} for kind in ("response.created", "response.in_progress")]
    for at, item in enumerate(output(said)):
        where = {"output_index": at, "item_id": item["id"]}
        events.append({"type": "response.output_item.added", "output_index": at, "item": {**item, **empty(item)}})
        events += inside(item, where)
        events.append({"type": "response.output_item.done", "output_index": at, "item": item})
    if said.breaks:
        events = [*events[:4], {"type": "error", "code": "server_error", "message": "it broke off", "param": None}]
    else:
        events.append({"type": "response.completed", "response": answer(call, said)})
    return [event({**value, "sequence_number": at}, value["type"]) for at, value in enumerate(events)]


def empty(item):
    return {"message": {"content": [], "status": "in_progress"}, "function_call": {"arguments": "", "status": "in_progress"}, "reasoning": {"summary": []}}[item["type"]]


def inside(item, where):
    if item["type"] == "function_call":
        args = item["arguments"]
        deltas = [{"type": "response.function_call_arguments.delta", **where, "delta": part} for part in (args[:5], args[5:])]
        return [*deltas, {"type": "response.function_call_arguments.done", **where, "arguments": args, "name": item["name"]}]
    if item["type"] == "reasoning":
        part, where = item["summary"][0], {**where, "summary_index": 0}
        return [{"type": "response.reasoning_summary_part.added", **where, "part": {**part, "text": ""}}, {"type": "response.reasoning_summary_text.delta", **where, "delta": part["text"]},
                {"type": "response.reasoning_summary_text.done", **where, "text": part["text"]}, {"type": "response.reasoning_summary_part.done", **where, "part": part}]
    part, where = item["content"][0], {**where, "content_index": 0}
    deltas = [{"type": "response.output_text.delta", **where, "delta": text, "logprobs": []} for text in (part["text"][:6], part["text"][6:])]
    return [{"type": "response.content_part.added", **where, "part": {**part, "text": ""}}, *deltas,
            {"type": "response.output_text.done", **where, "text": part["text"], "logprobs": []}, {"type": "response.content_part.done", **where, "part": part}]
