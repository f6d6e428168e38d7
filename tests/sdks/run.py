"""Official SDKs against a real node: their parsers judge what callers get, in their own dialect and translated.

    python -m venv /tmp/sdks && /tmp/sdks/bin/pip install openai anthropic google-genai langchain-openai
    cargo build -p tidegate && /tmp/sdks/bin/python tests/sdks/run.py target/debug/tidegate

Two fake providers run in this process, one speaks OpenAI's dialect and one Anthropic's. Each case runs over both. SDKs that are
not installed are named and skipped; a case that fails is told with its error, and the exit code says so.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOOL = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


class Provider(BaseHTTPRequestHandler):
    """`openai` or `anthropic`, by the path. What the last user says decides what is answered."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        call = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = json.dumps(call["messages"][-1] if "messages" in call else call)
        if "overload" in text:
            return self.answer(503, {"error": {"message": "overloaded", "type": "overloaded_error"}})
        anthropic = self.path.endswith("/messages")
        key = self.headers["x-api-key"] if anthropic else self.headers["authorization"].removeprefix("Bearer ")
        if key != "sk-provider":
            return self.answer(401, {"error": {"message": "wrong key", "type": "authentication_error"}})
        if self.path.endswith("/embeddings"):
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
            return self.answer(200, {"object": "list", "data": data, "model": "e", "usage": {"prompt_tokens": 2, "total_tokens": 2}})
        wants = "tool" if call.get("tools") else "json" if "as json" in text else "text"
        said = '{"city":"Oslo","celsius":3}' if wants == "json" else "Hello there"
        (self.anthropic if anthropic else self.openai)(call, wants, said)

    def openai(self, call, wants, said):
        tool = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
        usage = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
        reason = "tool_calls" if wants == "tool" else "stop"
        if not call.get("stream"):
            message = {"role": "assistant", "content": None if wants == "tool" else said}
            if wants == "tool":
                message["tool_calls"] = [{k: v for k, v in tool.items() if k != "index"}]
            choice = {"index": 0, "message": message, "finish_reason": reason}
            return self.answer(200, {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": call["model"], "choices": [choice], "usage": usage})
        deltas = [{"tool_calls": [tool]}] if wants == "tool" else [{"content": said[:6]}, {"content": said[6:]}]
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": call["model"]}
        chunks = [{**head, "choices": [{"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": None}]} for delta in deltas]
        chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        chunks.append({**head, "choices": [], "usage": usage})
        self.stream([f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + ["data: [DONE]\n\n"])

    def anthropic(self, call, wants, said):
        block = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}} if wants == "tool" else {"type": "text", "text": said}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": call["model"], "content": [block], "stop_sequence": None,
                   "stop_reason": "tool_use" if wants == "tool" else "end_turn", "usage": {"input_tokens": 11, "output_tokens": 5}}
        if not call.get("stream"):
            return self.answer(200, message)
        if wants == "tool":
            start, deltas = {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in ('{"city":', '"Oslo"}')]
        else:
            start, deltas = {"type": "text", "text": ""}, [{"type": "text_delta", "text": part} for part in (said[:6], said[6:])]
        events = [{"type": "message_start", "message": {**message, "content": [], "stop_reason": None}},
                  {"type": "content_block_start", "index": 0, "content_block": start}]
        events += [{"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas]
        events += [{"type": "content_block_stop", "index": 0},
                   {"type": "message_delta", "delta": {"stop_reason": message["stop_reason"], "stop_sequence": None}, "usage": {"output_tokens": 5}},
                   {"type": "message_stop"}]
        self.stream([f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events])

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, events):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in events:
            data = event.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")


class Node:
    def __init__(self, binary, folder):
        provider = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
        threading.Thread(target=provider.serve_forever, daemon=True).start()
        self.binary, folder = binary, Path(folder)
        ready, at = folder / "ready", "127.0.0.1:0"
        command = [binary, "serve", "--data", folder / "data", "--http", at, "--https", at, "--admin", at, "--peer", at, "--ready-file", ready]
        self.process = subprocess.Popen(command, env={**os.environ, "PROVIDER_KEY": "sk-provider"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.time() + 30
        while not ready.exists() or not ready.read_text().strip():
            assert time.time() < until and self.process.poll() is None, "the node does not start"
            time.sleep(0.02)
        place = json.loads(ready.read_text())
        self.url = f"http://{place['http']}"
        self.env = {**os.environ, "TIDEGATE_ADMIN": f"http://{place['admin']}", "TIDEGATE_TOKEN": (folder / "data/admin.token").read_text().strip()}
        url = f"http://127.0.0.1:{provider.server_port}"
        document = {
            "version": 1,
            "secrets": [{"name": "provider", "from": "env:PROVIDER_KEY"}],
            "consumers": [{"name": "app"}],
            "providers": [{"name": kind, "kind": kind, "url": url, "key": "${secrets.provider}"} for kind in ("openai", "anthropic")],
            "models": [{"name": f"by-{kind}", "deployments": [{"provider": kind, "model": f"real-{kind}"}], "losses": "drop"} for kind in ("openai", "anthropic")],
            "limits": [{"name": "tokens", "window": "1h", "max": 10_000_000, "per": ["key", "model"], "cost": {"from": "tokens"}}],
            "routes": [{"name": "llm", "match": {"path": "/*"}, "llm": {"models": ["by-openai", "by-anthropic"]}, "auth": ["key"], "limits": ["tokens"]}],
        }
        (folder / "llm.json").write_text(json.dumps(document))
        self.cli("apply", str(folder / "llm.json"), "--wait")
        self.key = json.loads(self.cli("key", "create", "app", "-o", "json"))["secret"]

    def cli(self, *words):
        done = subprocess.run([self.binary, *words], env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def openai_cases(node, model):
    import openai

    client = openai.OpenAI(base_url=f"{node.url}/v1", api_key=node.key, max_retries=0)
    ask = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    tools = [{"type": "function", "function": {"name": "weather", "parameters": TOOL}}]

    def chat():
        answer = client.chat.completions.create(model=model, messages=ask)
        assert answer.choices[0].message.content == "Hello there" and answer.usage.total_tokens == 16, answer

    def stream():
        chunks = list(client.chat.completions.create(model=model, messages=ask, stream=True, stream_options={"include_usage": True}))
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello there", chunks
        assert chunks[-1].usage.total_tokens == 16, chunks[-1]
        plain = list(client.chat.completions.create(model=model, messages=ask, stream=True))
        assert all(c.usage is None and c.choices for c in plain), plain

    def tool():
        call = client.chat.completions.create(model=model, messages=ask, tools=tools).choices[0].message.tool_calls[0]
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Oslo"}), call
        with client.chat.completions.stream(model=model, messages=ask, tools=tools) as events:
            call = events.get_final_completion().choices[0].message.tool_calls[0]
        assert json.loads(call.function.arguments) == {"city": "Oslo"}, call
        said = [*ask, {"role": "assistant", "content": None, "tool_calls": [{"id": call.id, "type": "function", "function": {"name": "weather", "arguments": call.function.arguments}}]},
                {"role": "tool", "tool_call_id": call.id, "content": "3 °C"}]
        client.chat.completions.create(model=model, messages=said, tools=tools)

    def structured():
        schema = {"type": "object", "properties": {"city": {"type": "string"}, "celsius": {"type": "number"}}, "required": ["city", "celsius"], "additionalProperties": False}
        form = {"type": "json_schema", "json_schema": {"name": "weather", "schema": schema, "strict": True}}
        answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Weather as json"}], response_format=form)
        assert json.loads(answer.choices[0].message.content)["city"] == "Oslo", answer

    def responses():
        answer = client.responses.create(model=model, input="Hi")
        assert answer.output_text == "Hello there" and answer.usage.total_tokens == 16, answer
        with client.responses.stream(model=model, input="Hi") as events:
            assert events.get_final_response().output_text == "Hello there"

    def errors():
        for wrong, kind in [(dict(model="none"), openai.NotFoundError), (dict(messages=[{"role": "user", "content": "overload"}]), openai.InternalServerError)]:
            try:
                client.chat.completions.create(**{"model": model, "messages": ask, **wrong})
                raise AssertionError("it is no error")
            except kind as why:
                assert why.body["message"], why
        try:
            openai.OpenAI(base_url=f"{node.url}/v1", api_key="tg_wrong", max_retries=0).models.list()
            raise AssertionError("any key is good")
        except openai.AuthenticationError:
            pass

    def models():
        assert {m.id for m in client.models.list()} == {"by-openai", "by-anthropic"}
        assert client.models.retrieve(model).id == model

    def embeddings():
        assert client.embeddings.create(model=model, input="x", encoding_format="float").data[0].embedding == [0.5, 0.25]

    cases = [chat, stream, tool, structured, errors, models]
    if model == "by-openai":
        cases.append(embeddings)
    else:
        cases.append(responses)
    return cases


def anthropic_cases(node, model):
    import anthropic

    client = anthropic.Anthropic(base_url=node.url, api_key=node.key, max_retries=0)
    ask = dict(model=model, max_tokens=100, messages=[{"role": "user", "content": "Hi"}])
    tools = [{"name": "weather", "input_schema": TOOL}]

    def chat():
        answer = client.messages.create(system="Be brief.", **ask)
        assert answer.content[0].text == "Hello there" and answer.usage.output_tokens == 5, answer

    def stream():
        with client.messages.stream(**ask) as events:
            assert "".join(events.text_stream) == "Hello there"
            assert (events.get_final_message().usage.input_tokens, events.get_final_message().usage.output_tokens) == (11, 5)

    def tool():
        answer = client.messages.create(tools=tools, **ask)
        assert (answer.stop_reason, answer.content[0].input) == ("tool_use", {"city": "Oslo"}), answer
        with client.messages.stream(tools=tools, **ask) as events:
            block = events.get_final_message().content[0]
        assert block.input == {"city": "Oslo"}, block
        said = [*ask["messages"], {"role": "assistant", "content": [{"type": "tool_use", "id": block.id, "name": "weather", "input": block.input}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block.id, "content": "3 °C"}]}]
        client.messages.create(tools=tools, **{**ask, "messages": said})

    def errors():
        for wrong, kind in [(dict(model="none"), anthropic.NotFoundError), (dict(messages=[{"role": "user", "content": "overload"}]), anthropic.InternalServerError)]:
            try:
                client.messages.create(**{**ask, **wrong})
                raise AssertionError("it is no error")
            except kind as why:
                assert why.body["error"]["message"], why

    def models():
        assert {m.id for m in client.models.list()} == {"by-openai", "by-anthropic"}

    return [chat, stream, tool, errors, models]


def google_cases(node, model):
    from google import genai
    from google.genai import errors as failed
    from google.genai import types

    client = genai.Client(api_key=node.key, http_options=types.HttpOptions(base_url=node.url))
    tools = [types.Tool(function_declarations=[types.FunctionDeclaration(name="weather", parameters_json_schema=TOOL)])]

    def chat():
        answer = client.models.generate_content(model=model, contents="Hi")
        assert answer.text == "Hello there" and answer.usage_metadata.prompt_token_count == 11, answer

    def stream():
        assert "".join(c.text or "" for c in client.models.generate_content_stream(model=model, contents="Hi")) == "Hello there"

    def tool():
        config = types.GenerateContentConfig(tools=tools, automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True))
        answer = client.models.generate_content(model=model, contents="Hi", config=config)
        assert answer.function_calls[0].args == {"city": "Oslo"}, answer

    def errors():
        try:
            client.models.generate_content(model="none", contents="Hi")
            raise AssertionError("it is no error")
        except failed.ClientError as why:
            assert why.code == 404, why

    return [chat, stream, tool, errors]


def langchain_cases(node, model):
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(base_url=f"{node.url}/v1", api_key=node.key, model=model, max_retries=0)

    def invoke():
        answer = chat.invoke("Hi")
        assert answer.content == "Hello there" and answer.usage_metadata["total_tokens"] == 16, answer

    def stream():
        assert "".join(chunk.content for chunk in chat.stream("Hi")) == "Hello there"

    return [invoke, stream]


SDKS = {"openai": openai_cases, "anthropic": anthropic_cases, "google.genai": google_cases, "langchain_openai": langchain_cases}


def is_there(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def main():
    ran = failed = 0
    with tempfile.TemporaryDirectory(prefix="tidegate-sdks-") as folder:
        node = Node(sys.argv[1], folder)
        try:
            for name, cases in SDKS.items():
                if not is_there(name):
                    print(f"{name}: not installed, skipped")
                    continue
                for model in ("by-openai", "by-anthropic"):
                    for case in cases(node, model):
                        ran += 1
                        try:
                            case()
                            print(f"ok    {name} {model} {case.__name__}")
                        except Exception:
                            failed += 1
                            print(f"FAIL  {name} {model} {case.__name__}\n{traceback.format_exc(limit=3)}")
        finally:
            node.process.terminate()
            node.process.wait(20)
    print(f"{ran} cases ran, {failed} failed")
    sys.exit(1 if failed or not ran else 0)


main()
