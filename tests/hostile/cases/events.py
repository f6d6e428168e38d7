"""Streams of events: each reaches the client before the origin says the next, whatever lies between: HTTP/1.1, h2, TLS, compression, the
cache, a model's translation. An origin waits until its event was seen; whoever holds one back stands still."""

import json
import socket
import ssl
import threading
import time
import zlib

import brotli
import h2.config
import h2.connection
import h2.events
import zstandard

from origin import Origin, chunk, echo, head

EVENTS = 8
PATIENCE = 5
seen = threading.Semaphore(0)
trouble = []


def wait(n):
    if not seen.acquire(timeout=PATIENCE):
        trouble.append(f"event {n} was held back")
        raise OSError(trouble[-1])


def event(n):
    return b"data: %d\n\n" % n


def events(request, line):
    line.sendall(head(content_type="text/event-stream", transfer_encoding="chunked", cache_control="no-cache"))
    for n in range(EVENTS):
        line.sendall(chunk(event(n)))
        wait(n)
    line.sendall(b"0\r\n\r\n")


def kept(request, line):
    """As the others, and may be kept."""
    line.sendall(head(content_type="text/event-stream", transfer_encoding="chunked", cache_control="max-age=60"))
    for n in range(EVENTS):
        line.sendall(chunk(event(n)))
        wait(n)
    line.sendall(b"0\r\n\r\n")


def said(n):
    told = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": 0, "delta": {"content": f" word{n}"}, "finish_reason": None}]}
    return b"data: " + json.dumps(told).encode() + b"\n\n"


def completions(request, line):
    line.sendall(head(content_type="text/event-stream", transfer_encoding="chunked"))
    for n in range(EVENTS):
        line.sendall(chunk(said(n)))
        wait(n)
    line.sendall(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


def ready(world):
    trouble.clear()
    while seen.acquire(blocking=False):
        pass
    if hasattr(world, "teller"):
        return
    world.teller = Origin({"events": events, "kept": kept, "completions": completions, "echo": echo})
    to, packed = [{"upstream": "teller"}], {"types": ["text/event-stream"], "min_size": "1B"}
    provider = {"name": "teller-llm", "kind": "openai_compatible", "url": f"http://127.0.0.1:{world.teller.port}/v1"}
    world.publish(
        upstreams=[world.teller.upstream("teller")],
        providers=[provider],
        models=[{"name": "teller", "deployments": [{"provider": "teller-llm", "model": "m"}]}],
        routes=[
            {"name": "told", "match": {"path": "/told/*"}, "to": to},
            {"name": "told-packed", "match": {"path": "/told-packed/*"}, "to": to, "compression": packed},
            {"name": "told-kept", "match": {"path": "/told-kept/*"}, "to": to, "cache": {}},
            {"name": "told-llm", "match": {"path": "/told-llm/*"}, "llm": {"models": ["teller"]}},
            {"name": "told-llm-packed", "match": {"path": "/told-llm-packed/*"}, "llm": {"models": ["teller"]}, "compression": packed},
        ],
    )


def plain():
    return lambda data: data


def gzipped():
    state = zlib.decompressobj(31)
    return state.decompress


def brotlied():
    state = brotli.Decompressor()
    return state.process


def zstdded():
    state = zstandard.ZstdDecompressor().decompressobj()
    return state.decompress


def asks(path, coding, body):
    coding = f"accept-encoding: {coding}\r\n" if coding else ""
    if not body:
        return f"GET {path} HTTP/1.1\r\nhost: localhost\r\n{coding}\r\n".encode()
    return f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{coding}content-length: {len(body)}\r\n\r\n".encode() + body


def over_h1(line, path, coding, body):
    """Pieces of the body, as they come."""
    line.sendall(asks(path, coding, body))
    heard = b""
    while b"\r\n\r\n" not in heard:
        heard += line.recv(65536)
    top, _, heard = heard.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 200 ") and (coding is None or f"content-encoding: {coding}".encode() in top.lower()), top
    while True:
        while b"\r\n" not in heard:
            heard += line.recv(65536)
        size, _, heard = heard.partition(b"\r\n")
        size = int(size, 16)
        while len(heard) < size + 2:
            heard += line.recv(65536)
        if size == 0:
            return
        piece, heard = heard[:size], heard[size + 2 :]
        yield piece


def over_h2(line, path, coding, body):
    speaker = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    speaker.initiate_connection()
    fields = [(":method", "POST" if body else "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", path)]
    if coding:
        fields.append(("accept-encoding", coding))
    if body:
        fields.append(("content-type", "application/json"))
    speaker.send_headers(1, fields, end_stream=not body)
    if body:
        speaker.send_data(1, body, end_stream=True)
    line.sendall(speaker.data_to_send())
    while data := line.recv(65536):
        for one in speaker.receive_data(data):
            if isinstance(one, h2.events.ResponseReceived):
                told = {bytes(k): bytes(v) for k, v in one.headers}
                assert told[b":status"] == b"200" and (coding is None or told[b"content-encoding"] == coding.encode()), told
            elif isinstance(one, h2.events.DataReceived):
                speaker.acknowledge_received_data(one.flow_controlled_length, 1)
                line.sendall(speaker.data_to_send())
                yield one.data
            elif isinstance(one, h2.events.StreamEnded):
                return
        line.sendall(speaker.data_to_send())


def secured(world, alpn):
    terms = ssl.create_default_context()
    terms.check_hostname, terms.verify_mode = False, ssl.CERT_NONE
    terms.set_alpn_protocols([alpn])
    host, port = world.secure
    return terms.wrap_socket(socket.create_connection((host, port), timeout=PATIENCE), server_hostname="world.test")


def told(world, path, line, speak, coding=None, undo=plain, body=None, wanted=event):
    """Every event is seen before the next is said."""
    ready(world)
    with line:
        read, heard, n = undo(), b"", 0
        for piece in speak(line, path, coding, body):
            heard += read(piece)
            while n < EVENTS and wanted(n) in heard:
                n += 1
                seen.release()
    assert not trouble and n == EVENTS, (trouble, heard)


def over_http_1_and_2_and_tls(world):
    ready(world)
    told(world, "/told/events", world.connect(), over_h1)
    told(world, "/told/events", world.connect(), over_h2)
    told(world, "/told/events", secured(world, "http/1.1"), over_h1)
    told(world, "/told/events", secured(world, "h2"), over_h2)


def with_compression(world):
    """RFC 9110 § 8.4: each event is flushed."""
    ready(world)
    for coding, undo in (("gzip", gzipped), ("br", brotlied), ("zstd", zstdded)):
        told(world, "/told-packed/events", world.connect(), over_h1, coding, undo)
        told(world, "/told-packed/events", secured(world, "h2"), over_h2, coding, undo)


def across_the_cache(world):
    """What may not be kept, and what is being kept while it comes."""
    ready(world)
    told(world, "/told-kept/events", world.connect(), over_h1)
    told(world, "/told-kept/kept", world.connect(), over_h1)


def across_models(world):
    """A model's words: in the dialect they come in, and translated into another; compressed and not."""
    ready(world)
    chat = json.dumps({"model": "teller", "stream": True, "messages": [{"role": "user", "content": "x"}]}).encode()
    other = json.dumps({"model": "teller", "stream": True, "max_tokens": 99, "messages": [{"role": "user", "content": "x"}]}).encode()

    def word(n):
        return f" word{n}".encode()

    for path, body in (("v1/chat/completions", chat), ("v1/messages", other)):
        told(world, f"/told-llm/{path}", world.connect(), over_h1, body=body, wanted=word)
        told(world, f"/told-llm/{path}", secured(world, "h2"), over_h2, body=body, wanted=word)
        told(world, f"/told-llm-packed/{path}", world.connect(), over_h1, "br", brotlied, body, word)


def a_hundred_that_are_silent(world):
    """Streams that say nothing for a while cost little, each with its coder; others are served."""
    ready(world)
    before, lines = world.memory(), [world.connect() for _ in range(100)]
    for line in lines:
        line.sendall(asks("/told-packed/events", "gzip", None))
    for line in lines:
        assert line.recv(65536)
    world.is_well()
    grown = world.memory() - before
    for line in lines:
        line.close()
    for _ in lines:
        seen.release()
    assert grown < 80, f"{grown:.0f} MB"
    time.sleep(0.5)


CASES = [over_http_1_and_2_and_tls, with_compression, across_the_cache, across_models, a_hundred_that_are_silent]
