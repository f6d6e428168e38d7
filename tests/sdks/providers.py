"""Providers that are none: each speaks one dialect and is as strict about calls as the real one. What is said last decides what
is answered (`say`), so that every SDK can ask for everything over every dialect.

    "overload"  the provider's own word for it, 503 or 529        "throttle"  429, to be tried again in 7 s
    "break off" half an answer, then an error inside the stream   "weather"   calls the tool, for Oslo; with "both" for Rome too
    "as json"   what the schema that came along asks for          "think"     a thought, signed where the dialect signs
"""

import base64 as codec
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-provider"
THOUGHT = "Let me see."
ANSWER = "Hello there"
SCHEMA_ANSWER = '{"city":"Oslo","celsius":3}'
# Tokens of every answer: of the prompt 7 were new and 4 came from the provider's cache; of the answer 3 are thoughts, if it thinks.
NEW, CACHED, OUT, THOUGHTS = 7, 4, 5, 3


class Wrong(Exception):
    """What the real provider would refuse."""


@dataclass
class Heard:
    """A call, whatever its dialect."""

    text: str = ""
    stream: bool = False
    thinks: bool = False
    schema: dict | None = None
    tools: list = field(default_factory=list)
    results: list = field(default_factory=list)
    images: list = field(default_factory=list)


@dataclass
class Said:
    thought: str = ""
    text: str = ""
    calls: list = field(default_factory=list)
    breaks: bool = False

    @property
    def pieces(self):
        return [self.text[:6], self.text[6:]] if self.text else []


def say(heard):
    said = Said(thought=THOUGHT if heard.thinks else "", breaks="break off" in heard.text)
    if heard.results:
        said.text = "They say: " + " and ".join(heard.results)
    elif heard.images:
        said.text = "I see " + " and ".join(f"{kind} of {size} bytes" for kind, size in heard.images)
    elif "weather" in heard.text.lower() and heard.tools:
        said.calls = [(f"{n}", "weather", {"city": city}) for n, city in enumerate(["Oslo", "Rome"][: 2 if "both" in heard.text else 1])]
    elif "as json" in heard.text:
        if not heard.schema or set(heard.schema["properties"]) != {"city", "celsius"}:
            raise Wrong(f"no schema came along: {heard.schema}")
        said.text = SCHEMA_ANSWER
    else:
        said.text = ANSWER
    return said


class Provider(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        call = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.endswith("/embeddings"):
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
            return self.answer(200, {"object": "list", "data": data, "model": "e", "usage": {"prompt_tokens": 2, "total_tokens": 2}})
        if self.path.endswith("/input_tokens"):  # as most servers that speak OpenAI's dialect
            return self.answer(404, {"error": {"message": "not found", "type": "invalid_request_error", "param": None, "code": None}})
        dialect = dialect_of(self.path)
        if KEY not in (self.headers.get(name, "").removeprefix("Bearer ") for name in ("authorization", "x-api-key", "x-goog-api-key")):
            return self.refuse(dialect, 401, "wrong key")
        try:
            heard = dialect.hear(call, self.path, self.headers)
            said = say(heard)
        except Wrong as why:
            return self.refuse(dialect, 400, str(why))
        if "overload" in heard.text:
            return self.refuse(dialect, dialect.OVERLOADED, "overloaded")
        if "throttle" in heard.text:
            return self.refuse(dialect, 429, "too many requests", {"retry-after": "7"})
        if not heard.stream:
            return self.answer(200, dialect.answer(call, said))
        self.stream(dialect.STREAM, dialect.stream(call, said))

    def refuse(self, dialect, status, message, headers=None):
        body, more = dialect.error(status, message)
        self.answer(status, body, {**(headers or {}), **more})

    def answer(self, status, value, headers=None):
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def stream(self, kind, events):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for data in events:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")


def dialect_of(path):
    from dialects import anthropic, bedrock, gemini, openai, responses

    ends = {"/messages": anthropic, "/chat/completions": openai, "/responses": responses, "/converse": bedrock, "/converse-stream": bedrock}
    return next((dialect for end, dialect in ends.items() if path.endswith(end)), gemini)


def start():
    """One server for all dialects; its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def event(value, name=None):
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode()


def size_of(base64):
    return len(codec.b64decode(base64, validate=True))
