"""gRPC by Google's own client and server, with the gateway between them; and gRPC-Web as browsers send it."""

import base64
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

ROUTES = [
    {"name": "calls", "match": {"path": "/t.T/*"}, "to": [{"upstream": "grpc"}], "grpc_web": True},
    {"name": "locked", "match": {"path": "/locked.T/*"}, "to": [{"upstream": "grpc"}], "auth": ["key"]},
    {"name": "limited", "match": {"path": "/limited.T/*"}, "to": [{"upstream": "grpc"}], "limits": ["one"]},
    {"name": "gone", "match": {"path": "/gone.T/*"}, "to": [{"upstream": "gone"}]},
]
LIMITS = [{"name": "one", "window": "1h", "max": 1, "per": ["route"]}]
cancelled = threading.Event()


class Service(grpc.GenericRpcHandler):
    """Messages are bytes; the name of the method says what happens."""

    def service(self, call):
        method = call.method.rsplit("/", 1)[1]
        if method == "Echo":
            return grpc.unary_unary_rpc_method_handler(self.echo)
        if method == "Fail":
            return grpc.unary_unary_rpc_method_handler(self.fail)
        if method == "Slow":
            return grpc.unary_unary_rpc_method_handler(self.slow)
        if method == "Many":
            return grpc.unary_stream_rpc_method_handler(self.many)
        if method == "Endless":
            return grpc.unary_stream_rpc_method_handler(self.endless)
        if method == "Sum":
            return grpc.stream_unary_rpc_method_handler(lambda messages, context: b"%d" % sum(map(len, messages)))
        if method == "Both":
            return grpc.stream_stream_rpc_method_handler(lambda messages, context: (b"<" + message + b">" for message in messages))
        return None

    def echo(self, message, context):
        sent = dict(context.invocation_metadata())
        context.send_initial_metadata([("x-first", sent.get("x-mine", ""))])
        context.set_trailing_metadata([("x-last-bin", sent.get("x-mine-bin", b""))])
        return message

    def fail(self, message, context):
        context.set_trailing_metadata([("x-why", "because")])
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "90 % of naïve callers\nfail")

    def slow(self, message, context):
        time.sleep(3)
        return message

    def many(self, message, context):
        for n in range(int(message)):
            yield b"%d" % n

    def endless(self, message, context):
        context.add_callback(cancelled.set)
        while context.is_active():
            yield b"more"
            time.sleep(0.01)


def channel(world):
    """Made once; the world gets what these calls need."""
    if not hasattr(world, "channel"):
        world.server = grpc.server(ThreadPoolExecutor(16))
        world.server.add_generic_rpc_handlers([Service()])
        port = world.server.add_insecure_port("127.0.0.1:0")
        world.server.start()
        upstreams = [
            {"name": "grpc", "protocol": "http2", "endpoints": [{"url": f"http://127.0.0.1:{port}"}]},
            {"name": "gone", "protocol": "http2", "endpoints": [{"url": "http://127.0.0.1:1"}]},
        ]
        world.publish(routes=ROUTES, upstreams=upstreams, limits=LIMITS)
        world.channel = grpc.insecure_channel("%s:%d" % world.address)
    return world.channel


def unary(world, method, message=b"hello", timeout=10, metadata=()):
    return channel(world).unary_unary(method).with_call(message, timeout=timeout, metadata=metadata)


def code(call):
    try:
        call()
    except grpc.RpcError as why:
        return why
    raise AssertionError("it was answered")


def a_call_passes_with_its_metadata_both_ways(world):
    for message in [b"", b"hello", bytes(range(256)) * 4_096]:
        answer, call = unary(world, "/t.T/Echo", message, metadata=[("x-mine", "a"), ("x-mine-bin", b"\0\xff")])
        assert answer == message and call.code() == grpc.StatusCode.OK
        assert dict(call.initial_metadata())["x-first"] == "a", call.initial_metadata()
        assert dict(call.trailing_metadata())["x-last-bin"] == b"\0\xff", call.trailing_metadata()


def a_status_passes_with_its_words_and_trailers(world):
    why = code(lambda: unary(world, "/t.T/Fail"))
    assert why.code() == grpc.StatusCode.FAILED_PRECONDITION and why.details() == "90 % of naïve callers\nfail", why
    assert dict(why.trailing_metadata())["x-why"] == "because"


def an_unknown_method_is_the_backends_word(world):
    why = code(lambda: unary(world, "/t.T/Nothing"))
    assert why.code() == grpc.StatusCode.UNIMPLEMENTED, why


def a_stream_of_answers_comes_whole_and_in_order(world):
    answers = list(channel(world).unary_stream("/t.T/Many")(b"2000", timeout=20))
    assert answers == [b"%d" % n for n in range(2_000)]


def a_stream_of_requests_is_answered_once(world):
    assert channel(world).stream_unary("/t.T/Sum")(iter([b"x" * 1_000] * 500), timeout=20) == b"500000"


def both_ways_at_once(world):
    """Each message is answered before the next is sent: nothing is gathered."""
    turn = threading.Semaphore(1)

    def asks():
        for n in range(50):
            assert turn.acquire(timeout=5)
            yield b"%d" % n

    for n, answer in enumerate(channel(world).stream_stream("/t.T/Both")(asks(), timeout=20)):
        assert answer == b"<%d>" % n
        turn.release()
    assert n == 49


def who_hangs_up_cancels_the_call(world):
    cancelled.clear()
    call = channel(world).unary_stream("/t.T/Endless")(b"", timeout=20)
    assert next(call) == b"more"
    call.cancel()
    assert cancelled.wait(5), "the backend goes on"


def a_deadline_is_the_gateways_too(world):
    """A client that does not watch its own: the gateway ends the call when its time is over."""
    began = time.time()
    head, body = web(world, "/t.T/Slow", b"x", more=b"grpc-timeout: 300m\r\n")
    assert time.time() - began < 2, f"{time.time() - began:.1f} s"
    assert b"grpc-status: 4\r\n" in head.lower() + b"\r\n", head
    why = code(lambda: unary(world, "/t.T/Slow", timeout=0.4))
    assert why.code() == grpc.StatusCode.DEADLINE_EXCEEDED, why


def refusals_are_statuses(world):
    why = code(lambda: unary(world, "/locked.T/Echo"))
    assert why.code() == grpc.StatusCode.UNAUTHENTICATED and why.details().startswith("key_missing:"), why
    assert unary(world, "/limited.T/Echo")[0] == b"hello"
    why = code(lambda: unary(world, "/limited.T/Echo"))
    assert why.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and why.details().startswith("rate_limited:"), why
    assert "retry-after" in dict(why.initial_metadata() or ()) | dict(why.trailing_metadata() or ()), why
    why = code(lambda: unary(world, "/gone.T/Echo"))
    assert why.code() == grpc.StatusCode.UNAVAILABLE, why


def message(data, flag=0):
    return bytes([flag]) + len(data).to_bytes(4, "big") + data


def web(world, path, data, kind=b"application/grpc-web+proto", more=b""):
    """What a browser sends, over HTTP/1.1: the head and the body of the answer."""
    channel(world)
    body = message(data)
    if b"-text" in kind:
        body = base64.b64encode(body)
    head = b"POST %s HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: %s\r\nx-grpc-web: 1\r\n%scontent-length: %d\r\n\r\n" % (path.encode(), kind, more, len(body))
    head, _, said = world.raw(head + body).partition(b"\r\n\r\n")
    if re.search(rb"(?i)transfer-encoding: chunked", head):
        whole = b""
        while True:
            size, _, said = said.partition(b"\r\n")
            if not int(size, 16):
                break
            whole, said = whole + said[: int(size, 16)], said[int(size, 16) + 2 :]
        said = whole
    return head, said


def a_browsers_call_is_answered_with_trailers_as_a_message(world):
    head, body = web(world, "/t.T/Echo", b"hello")
    assert b"content-type: application/grpc-web" in head, head
    assert body.startswith(message(b"hello")), body
    last = body[len(message(b"hello")) :]
    assert last[0] == 0x80 and int.from_bytes(last[1:5], "big") == len(last) - 5 and b"grpc-status: 0\r\n" in last, last


def a_browsers_call_in_text_is_base64_both_ways(world):
    for size in (0, 1, 2, 3, 100_000):
        head, body = web(world, "/t.T/Echo", b"x" * size, kind=b"application/grpc-web-text")
        assert b"content-type: application/grpc-web-text" in head, head
        plain = b"".join(base64.b64decode(piece + b"=" * (-len(piece) % 4)) for piece in re.split(rb"=+", body) if piece)
        assert plain.startswith(message(b"x" * size)) and b"grpc-status: 0" in plain, plain[:100]


def a_browser_sees_why_it_was_refused(world):
    head, body = web(world, "/t.T/Fail", b"x")
    assert b"grpc-status: 9" in head or b"grpc-status: 9" in body, (head, body)
    head, _ = web(world, "/locked.T/Echo", b"x")
    assert b" 200 " in head and b"grpc-status: 16" in head, head


def text_that_is_no_base64_is_refused(world):
    channel(world)
    said = world.raw(b"POST /t.T/Echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/grpc-web-text\r\ncontent-length: 8\r\n\r\n!!!!!!!!")
    assert b"grpc-status: 0" not in said and said.startswith(b"HTTP/1.1 "), said


CASES = [
    a_call_passes_with_its_metadata_both_ways,
    a_status_passes_with_its_words_and_trailers,
    an_unknown_method_is_the_backends_word,
    a_stream_of_answers_comes_whole_and_in_order,
    a_stream_of_requests_is_answered_once,
    both_ways_at_once,
    who_hangs_up_cancels_the_call,
    a_deadline_is_the_gateways_too,
    refusals_are_statuses,
    a_browsers_call_is_answered_with_trailers_as_a_message,
    a_browsers_call_in_text_is_base64_both_ways,
    a_browser_sees_why_it_was_refused,
    text_that_is_no_base64_is_refused,
]
