"""`boto3`: Converse and ConverseStream of bedrock-runtime, with the key in a header: over plain HTTP boto3 sends no bearer token."""

import base64
import json

from judge import CACHED, NEW, OUT, PNG, SCHEMA, SEEN, TOLD, TOOL, TOTAL, degrees, refused, same
from providers import ANSWER, THOUGHT

TOOLS = {"tools": [{"toolSpec": {"name": "weather", "inputSchema": {"json": TOOL}}}]}
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 2048}}


def cases(world, model):
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1})
    client = boto3.client("bedrock-runtime", endpoint_url=world.url, region_name="us-east-1", config=config)
    client.meta.events.register("before-send", lambda request, **_: request.headers.__setitem__("x-api-key", world.key))
    failed = client.exceptions
    user = lambda text: [{"role": "user", "content": [{"text": text}]}]  # noqa: E731
    ask = lambda messages, **more: client.converse(modelId=model, messages=messages, **more)  # noqa: E731

    def streamed(messages, **more):
        """As an application gathers it."""
        blocks, told = {}, {}
        for event in client.converse_stream(modelId=model, messages=messages, **more)["stream"]:
            if start := event.get("contentBlockStart"):
                blocks[start["contentBlockIndex"]] = {"toolUse": {**start["start"]["toolUse"], "input": ""}} if "toolUse" in start["start"] else {}
            if piece := event.get("contentBlockDelta"):
                block, delta = blocks.setdefault(piece["contentBlockIndex"], {}), piece["delta"]
                if "text" in delta:
                    block["text"] = block.get("text", "") + delta["text"]
                if "toolUse" in delta:
                    block["toolUse"]["input"] += delta["toolUse"]["input"]
                if "reasoningContent" in delta:
                    held = block.setdefault("reasoningContent", {"reasoningText": {"text": ""}})["reasoningText"]
                    held["text"] += delta["reasoningContent"].get("text", "")
                    if "signature" in delta["reasoningContent"]:
                        held["signature"] = delta["reasoningContent"]["signature"]
            told |= event.get("messageStop", {}) | event.get("metadata", {})
        for block in blocks.values():
            if "toolUse" in block:
                block["toolUse"]["input"] = json.loads(block["toolUse"]["input"] or "{}")
        return {"output": {"message": {"role": "assistant", "content": [blocks[at] for at in sorted(blocks)]}}, **told}

    def text_of(answer):
        return "".join(block.get("text", "") for block in answer["output"]["message"]["content"])

    def both():
        return ((ask, "whole"), (streamed, "streamed"))

    def chat():
        for way, name in both():
            answer = way(user("Hi"), system=[{"text": "Be brief."}])
            same((text_of(answer), answer["stopReason"]), (ANSWER, "end_turn"), (name, answer))
            used = answer["usage"]
            same((used["inputTokens"], used["cacheReadInputTokens"], used["outputTokens"], used["totalTokens"]), (NEW, CACHED, OUT, TOTAL), (name, used))

    def loop():
        for way, name in both():
            messages = user("The weather in both?")
            turn = way(messages, toolConfig=TOOLS)
            calls = [block["toolUse"] for block in turn["output"]["message"]["content"] if "toolUse" in block]
            same(([call["input"] for call in calls], turn["stopReason"]), ([{"city": "Oslo"}, {"city": "Rome"}], "tool_use"), (name, turn))
            results = [{"toolResult": {"toolUseId": call["toolUseId"], "content": [{"text": degrees(call["input"]["city"])}]}} for call in calls]
            messages += [turn["output"]["message"], {"role": "user", "content": results}]
            told = way(messages, toolConfig=TOOLS)
            same(text_of(told), TOLD, (name, told))
            messages += [told["output"]["message"], *user("Thanks")]
            same(text_of(way(messages, toolConfig=TOOLS)), ANSWER)

    def structured():
        form = {"type": "json_schema", "structure": {"jsonSchema": {"name": "weather", "schema": json.dumps(SCHEMA)}}}
        answer = ask(user("Weather as json"), outputConfig={"textFormat": form})
        same(json.loads(text_of(answer)), {"city": "Oslo", "celsius": 3}, answer)

    def image():
        content = [{"text": "What is it?"}, {"image": {"format": "png", "source": {"bytes": base64.b64decode(PNG)}}}]
        same(text_of(ask([{"role": "user", "content": content}])), SEEN)

    def reasoning():
        for way, name in both():
            answer = way(user("Hi"), inferenceConfig={"maxTokens": 4096}, additionalModelRequestFields=THINKING)
            thought = answer["output"]["message"]["content"][0]["reasoningContent"]["reasoningText"]["text"]
            same((thought, text_of(answer)), (THOUGHT, ANSWER), (name, answer))

    def errors():
        with refused(failed.ResourceNotFoundException, "none"):
            client.converse(modelId="none", messages=user("Hi"))
        with refused(failed.ThrottlingException, "too many"):
            ask(user("throttle"))
        with refused(failed.ServiceUnavailableException, "overloaded"):
            ask(user("overload"))
        with refused(failed.ValidationException, "no schema"):
            ask(user("as json"))

    def breaks():
        from botocore.exceptions import EventStreamError

        with refused(EventStreamError, "broke off"):
            streamed(user("break off"))

    return [chat, loop, structured, image, reasoning, errors, breaks]
