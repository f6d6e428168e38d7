"""HTTP/3: what a client gets by it, and what it may not do. RFC 9114; fields by RFC 9204, the connection by RFC 9000 and 9001.

What is malformed is never forwarded; what floods has the bounds of h2 (floods.py), and what is worse for the connection than for one
stream ends the connection with the code that the RFC names.
"""

import json
import socket
import ssl
import struct
import time

from cases.grpc_calls import channel
from certificates import write
from cryptography.x509.oid import ExtendedKeyUsageOID
from frames import Client as H2
from frames import beside, ended
from origin import Origin, chunk, echo
from origin import head as answer_head
from quic import (CANCELLED, CANCEL_PUSH, CONTROL, DATA, DECOMPRESSION_FAILED, ENCODER, EXCESSIVE_LOAD, FRAME_ERROR, FRAME_UNEXPECTED, GOAWAY, HEADERS,
                  ID_ERROR, INCOMPLETE, MAX_PUSH_ID, MESSAGE, MISSING_SETTINGS, NO_ERROR, PUSH, PUSH_PROMISE, REJECTED, SETTINGS, SETTINGS_ERROR,
                  STREAM_CREATION, CLOSED_CRITICAL, Client, block, frame, head, initial, is_retry, number, parsed)
from world import World

BIG = 8 << 20


def origin(world):
    """Made once: what these cases ask for lies under /h3/."""
    if not hasattr(world, "h3_origin"):
        world.h3_origin = Origin({"echo": echo, "big": big, "endless": endless, "trailers": trailers, "none": none, "slow": slow, "cut": cut})
        log = world.folder / "access.log"
        world.document["telemetry"] = {"access_log": {"format": "json", "file": str(log)}}
        write(world.folder, "other", world.issue("other.test"))
        write(world.folder, "staff", world.issue("staff.test"))
        write(world.folder, "person", world.issue("person", use=ExtendedKeyUsageOID.CLIENT_AUTH))
        shown = [{"name": name, "hosts": [f"{name}.test"], "file": str(world.folder / f"{name}.pem"), "key": str(world.folder / f"{name}.key")}
                 for name in ("other", "staff")]
        shown[1]["clients"] = {"ca": str(world.folder / "ca.pem")}
        world.publish(
            upstreams=[world.h3_origin.upstream("h3")],
            limits=[{"name": "six", "window": "1h", "max": 6, "per": ["route"]}],
            certificates=shown,
            routes=[
                {"name": "h3", "match": {"path": "/h3/*"}, "to": [{"upstream": "h3"}], "max_body": "32MiB"},
                {"name": "h3-few", "match": {"path": "/few"}, "to": [{"upstream": "plain"}], "limits": ["six"]},
                {"name": "h3-locked", "match": {"path": "/locked"}, "to": [{"upstream": "plain"}], "auth": ["key"]},
            ],
        )
    return world.h3_origin


def logged(world, wanted):
    """Lines are written a little later."""
    end = time.time() + 10
    while True:
        lines = [json.loads(line) for line in (world.folder / "access.log").read_text().splitlines()]
        if wanted(lines):
            return
        assert time.time() < end, lines[-5:]
        time.sleep(0.05)


def big(request, line):
    line.sendall(answer_head(content_length=BIG))
    for _ in range(BIG >> 16):
        line.sendall(b"x" * 65536)


def endless(request, line):
    line.sendall(answer_head(transfer_encoding="chunked"))
    while True:
        line.sendall(chunk(b"more" * 4096))


def trailers(request, line):
    line.sendall(answer_head(transfer_encoding="chunked", trailer="x-sum") + chunk(b"body") + b"0\r\nx-sum: 4\r\n\r\n")


def none(request, line):
    line.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


def slow(request, line):
    time.sleep(1)
    line.sendall(answer_head(content_length=4) + b"late")


def cut(request, line):
    line.sendall(answer_head(content_length=1000) + b"some")
    line.close()


def a_request_is_answered(world):
    """§ 4.1. Its answer says who it was, and upstreams are told how it came."""
    asked = origin(world)
    with Client(world) as client:
        told = client.get("/h3/echo?x=1", ("x-mine", "1"))
        assert told.status == 200 and "date" in told.fields and "x-request-id" in told.fields, told
        assert "alt-svc" not in told.fields and "connection" not in told.fields
        seen = json.loads(told.body)["fields"]
        assert seen["host"] == "world.test" and seen["x-mine"] == "1" and seen["via"] == "3 tidegate", seen
        assert seen["x-forwarded-proto"] == "https" and seen["x-forwarded-for"] == "127.0.0.1", seen
        assert seen["x-forwarded-port"] == str(world.secure[1]) and "transfer-encoding" not in seen, seen
    assert asked.asked[-1].target == "/h3/echo?x=1"
    logged(world, lambda lines: any(line.get("protocol") == "HTTP/3.0" for line in lines))


def a_large_body_goes_both_ways(world):
    """§ 4.1: 8 MiB in pieces of many sizes, with a length and without one; and as much back."""
    origin(world)
    body = bytes(range(256)) * (BIG // 256)
    with Client(world) as client:
        for fields in ((), (("content-length", str(BIG)),)):
            stream = client.raw(head("/h3/echo", "POST", *fields), end=False)
            at, size = 0, 1
            while at < len(body):
                client.say(stream, frame(DATA, body[at:at + size]))
                at, size = at + size, min(size * 3, 1 << 18)
            client.say(stream, b"", True)
            told = json.loads(client.answer(stream, 60).body)
            assert told["length"] == BIG and told["body"] == body[:1000].decode("latin-1"), told["length"]
        told = client.answer(client.ask("/h3/big"), 60)
        assert told.fields["content-length"] == str(BIG) and told.body == b"x" * BIG


def many_streams_at_once(world):
    """§ 6.1: a hundred, each with its own answer."""
    origin(world)
    with Client(world) as client:
        streams = [client.ask("/h3/echo", "POST", body=b"%d" % n) for n in range(100)]
        for n, stream in enumerate(streams):
            assert json.loads(client.answer(stream).body)["body"] == str(n)


def trailers_go_both_ways(world):
    """§ 4.1: what a message ends in."""
    origin(world)
    with Client(world) as client:
        assert client.get("/h3/trailers").trailers == {"x-sum": "4"}
        told = client.answer(client.raw(head("/h3/echo", "POST"), frame(DATA, b"body"), frame(HEADERS, block(("x-sum", "4")))))
        assert json.loads(told.body)["body"] == "body"


def answers_without_a_body(world):
    """RFC 9110 § 9.3.2, § 15.3.5: HEAD tells what GET would, and 204 has none."""
    origin(world)
    with Client(world) as client:
        told = client.answer(client.ask("/h3/big", "HEAD"))
        assert told.status == 200 and told.fields["content-length"] == str(BIG) and told.body == b""
        told = client.get("/h3/none")
        assert told.status == 204 and told.body == b"" and "content-length" not in told.fields


def a_stream_comes_as_it_is_made(world):
    """Pieces are not gathered: as gRPC's and a model's answers come."""
    origin(world)
    with Client(world) as client:
        stream = client.ask("/h3/endless")
        client.until(lambda: len(client.stream(stream).data) > 100_000)
        client.quic.stop_stream(stream, CANCELLED)
        assert client.get("/h3/echo").status == 200


def grpc_goes_through(world):
    """A call, a refusal as a status, and a stream both ways, each message answered before the next is sent."""
    channel(world)
    message = lambda data: b"\0" + struct.pack(">I", len(data)) + data
    fields = (("content-type", "application/grpc"), ("te", "trailers"))
    with Client(world) as client:
        told = client.answer(client.ask("/t.T/Echo", "POST", *fields, ("x-mine", "1"), body=message(b"body")))
        assert told.body == message(b"body") and told.trailers["grpc-status"] == "0" and told.fields["x-first"] == "1", told
        told = client.answer(client.ask("/locked.T/Echo", "POST", *fields, body=message(b"body")))
        assert told.fields["grpc-status"] == "16", told
        stream = client.ask("/t.T/Both", "POST", *fields, end=False)
        heard = b""
        for n in range(5):
            client.say(stream, frame(DATA, message(b"%d" % n)))
            heard += message(b"<%d>" % n)
            client.until(lambda: client.stream(stream).data.endswith(heard[-8:]) and parsed(client.stream(stream).data).body == heard)
        client.say(stream, b"", True)
        assert client.answer(stream).trailers["grpc-status"] == "0"


def refusals_are_ours(world):
    """No route, no key, a method that is not for gateways, a body that is too long: statuses, in the shape of all refusals."""
    origin(world)
    with Client(world) as client:
        for said, status, code in (
            (("/locked",), 401, "key_missing"),
            (("/", "TRACE"), 405, "method_refused"),
        ):
            told = client.answer(client.ask(*said))
            assert (told.status, json.loads(told.body)["error"]["code"]) == (status, code), told
        told = client.answer(client.ask("/small/x", "POST", body=b"x" * (300 << 10)))
        assert told.status == 413, told
        told = client.answer(client.ask("/small/x", "POST", ("content-length", str(1 << 30)), end=False))
        assert told.status == 413, told
        assert client.get("/well").status == 200


def connect_is_refused(world):
    """§ 4.4: no tunnel, and no WebSocket either: SETTINGS offer none (RFC 9220)."""
    with Client(world) as client:
        stream = client.ask("/", "CONNECT", without=(":scheme", ":path"))
        assert client.result(stream) == ("status", 405)
        told = client.result(client.ask("/", "CONNECT", (":protocol", "websocket")))
        assert told in (("status", 405), ("reset", MESSAGE)), told
        settings = next(payload for kind, payload in client.control() if kind == SETTINGS)
        assert b"\x08\x01" not in settings, settings


def malformed(world, *requests):
    """Each ends its stream alone, and reaches nobody."""
    with Client(world) as client:
        world.plain.forget()
        for said in requests:
            kind, what = client.result(client.raw(said))
            assert (kind, what) == ("reset", MESSAGE) or (kind == "status" and what == 400), (kind, what, said)
        assert not world.plain.all(), world.plain.all()
        assert client.get("/well").status == 200


def pseudo_fields_are_all_there_and_once(world):
    """§ 4.3, § 4.3.1."""
    every = (":method", ":scheme", ":path", ":authority")
    values = {":method": "GET", ":scheme": "https", ":path": "/", ":authority": "world.test"}
    malformed(
        world,
        *(head(without=(name,)) for name in every),
        *(head("/", "GET", (name, values[name])) for name in every),
        frame(HEADERS, block(("x", "1"), *values.items())),
        frame(HEADERS, block(*list(values.items())[:3], ("x", "1"), (":authority", "world.test"))),
        head("/", "GET", (":status", "200")),
        head("/", "GET", (":odd", "1")),
        head(""),
        head("/", ""),
        head(authority=""),
        head("no-slash"),
        head("/", "GET", ("host", "another.test")),
        frame(HEADERS, block((":method", "GET"), (":scheme", ""), (":path", "/"), (":authority", "a"))),
    )


def fields_of_one_connection_do_not_come(world):
    """§ 4.2."""
    malformed(world, *(head("/", "GET", field) for field in (
        ("connection", "close"), ("connection", "x-hop"), ("keep-alive", "timeout=5"), ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"), ("upgrade", "h2c"), ("te", "gzip"), ("te", "trailers, gzip"))))
    with Client(world) as client:
        assert client.get("/", ("te", "trailers")).status == 200


def names_and_values_are_sound(world):
    """§ 4.2, § 10.3: no capitals, nothing that would be another line in HTTP/1.1."""
    malformed(world, *(head("/", "GET", field) for field in (
        ("X-Upper", "1"), ("x y", "1"), ("x:y", "1"), ("", "1"), ("x\r\ny", "1"), ("x\0", "1"), ("x", "a\r\nb: c"), ("x", "a\nb"), ("x", "a\0b"),
        ("x", " padded"), ("x", "padded "), ("x", "padded\t"))))


def lengths_are_what_they_say(world):
    """§ 4.1.2: of a body that is shorter, longer, or not there; and of two that differ."""
    with Client(world) as client:
        world.plain.forget()
        for fields, body in (
            ((("content-length", "5"),), b""),
            ((("content-length", "5"),), b"four"),
            ((("content-length", "3"),), b"four"),
            ((("content-length", "4"), ("content-length", "5")), b"four"),
            ((("content-length", "+4"),), b"four"),
            ((("content-length", "4, 4"),), b"four"),
        ):
            kind, what = client.result(client.ask("/", "POST", *fields, body=body))
            assert (kind, what) == ("reset", MESSAGE) or (kind == "status" and what == 400), (kind, what, fields)
        assert b"four" not in b"".join(world.plain.all()).replace(b"content-length: 4", b""), world.plain.all()
        for fields in ((("content-length", "4"),), (("content-length", "4"), ("content-length", "4"))):
            assert client.answer(client.ask("/", "POST", *fields, body=b"four")).status == 200


def pseudo_fields_in_trailers(world):
    """§ 4.3: malformed."""
    with Client(world) as client:
        stream = client.raw(head("/h3/echo", "POST"), frame(DATA, b"body"), frame(HEADERS, block((":path", "/other"))))
        kind, what = client.result(stream)
        assert (kind, what) == ("reset", MESSAGE) or (kind == "status" and what == 400), (kind, what)
        assert client.get("/well").status == 200


def closes(world, code, *streams):
    """Each is the undoing of a connection of its own."""
    for stream in streams:
        with Client(world) as client:
            stream(client)
            got = client.ends()
            assert got in (code if isinstance(code, tuple) else (code,)), (hex(got), client.closed.reason_phrase)


def frames_where_they_may_not_be(world):
    """§ 4.1, § 7.1, § 7.2: H3_FRAME_UNEXPECTED."""
    ended_in_trailers = (head("/", "POST"), frame(DATA, b"x"), frame(HEADERS, block(("x", "1"))))
    bad = [
        (frame(DATA, b"x"),),
        (*ended_in_trailers, frame(DATA, b"x")),
        (*ended_in_trailers, frame(HEADERS, block(("x", "1")))),
        *((head("/", "POST"), frame(kind, b"\0")) for kind in (CANCEL_PUSH, SETTINGS, PUSH_PROMISE, GOAWAY, MAX_PUSH_ID, 0x2, 0x6, 0x8, 0x9)),
        *((frame(kind, b"\0"),) for kind in (SETTINGS, GOAWAY, 0x2)),
    ]
    closes(world, FRAME_UNEXPECTED, *(lambda client, said=said: client.raw(*said) for said in bad))
    closes(world, FRAME_UNEXPECTED, *(lambda client, kind=kind: (client.say(2, frame(kind)), client.send())
                                      for kind in (DATA, HEADERS, PUSH_PROMISE, SETTINGS, 0x2, 0x6, 0x8, 0x9)))


def frames_that_are_cut_off(world):
    """§ 7.1: H3_FRAME_ERROR, and not the end of a body."""
    whole = head("/", "POST", ("content-length", "9"))
    closes(
        world, FRAME_ERROR,
        lambda client: client.raw(whole, frame(DATA, b"four", 9)),
        lambda client: client.raw(head("/", "POST"), frame(DATA, b"four", 9)),
        lambda client: client.raw(head("/", "POST"), frame(DATA, b"four", 9)[:2]),
        lambda client: client.raw(whole[:-3]),
        lambda client: client.raw(whole[:1]),
        lambda client: (client.say(2, frame(MAX_PUSH_ID, b"\0\0")), client.send()),
    )


def a_body_that_is_cut_off_later(world):
    """§ 7.1: the end of the stream comes for itself, in the middle of DATA."""
    origin(world)
    with Client(world) as client:
        stream = client.raw(head("/h3/echo", "POST"), frame(DATA, b"four", 9), end=False)
        time.sleep(0.2)
        client.say(stream, b"", True)
        assert client.ends() == FRAME_ERROR


def the_control_stream_begins_with_settings(world):
    """§ 6.2.1, § 7.2.4."""
    def without_settings(data):
        with Client(world, greet=False) as client:
            client.uni(data)
            return client.ends()

    assert without_settings(number(CONTROL) + frame(GOAWAY, b"\0")) == MISSING_SETTINGS
    assert without_settings(number(CONTROL) + frame(0x21, b"x") + frame(SETTINGS)) == MISSING_SETTINGS
    assert without_settings(number(CONTROL) + frame(SETTINGS, number(2) + number(0))) == SETTINGS_ERROR
    assert without_settings(number(CONTROL) + frame(SETTINGS, b"", 1 << 20)) == EXCESSIVE_LOAD
    closes(world, (CLOSED_CRITICAL, FRAME_ERROR), lambda client: (client.say(2, b"", True), client.send()))
    # Once it is known what was reset.
    closes(world, CLOSED_CRITICAL, lambda client: (client.get("/well"), client.quic.reset_stream(2, CANCELLED), client.send()))


def one_of_each_critical_stream(world):
    """§ 6.2.1, § 6.2.2, RFC 9204 § 4.2: a second one, or a push of a client's, is H3_STREAM_CREATION_ERROR."""
    closes(
        world, STREAM_CREATION,
        lambda client: client.uni(number(CONTROL) + frame(SETTINGS)),
        lambda client: (client.uni(number(ENCODER)), client.uni(number(ENCODER))),
        lambda client: client.uni(number(PUSH) + number(0)),
    )


def what_nobody_knows_is_skipped(world):
    """§ 9, § 6.2.3, § 7.2.8: frames, streams and settings of kinds that are reserved or unknown."""
    origin(world)
    with Client(world, greet=False) as client:
        client.uni(number(0x21) + b"grease")
        client.uni(number(CONTROL) + frame(SETTINGS, number(0x21) + number(7)) + frame(0x21, b"x") + frame(0x40 * 0x1F + 0x21, b""))
        odd = frame(0x21, b"y" * 100_000)
        told = client.answer(client.raw(odd, head("/h3/echo", "POST"), odd, frame(DATA, b"bo"), frame(DATA), frame(0x41, b"z"), frame(DATA, b"dy"), odd))
        assert json.loads(told.body)["body"] == "body"
        told = client.answer(client.raw(head("/h3/echo", "POST"), frame(DATA), frame(DATA, b"body"), frame(HEADERS, block(("x", "1"))), odd))
        assert json.loads(told.body)["body"] == "body", "an empty frame is not the end"


def pushes_are_not_ours(world):
    """§ 7.2.3, § 7.2.7: nothing was pushed that could be cancelled, and a maximum does not fall."""
    closes(
        world, ID_ERROR,
        lambda client: (client.say(2, frame(CANCEL_PUSH, b"\0")), client.send()),
        lambda client: (client.say(2, frame(MAX_PUSH_ID, b"\x08") + frame(MAX_PUSH_ID, b"\x07")), client.send()),
        lambda client: (client.say(2, frame(GOAWAY, b"\0") + frame(GOAWAY, b"\x04")), client.send()),
    )


def fields_that_cannot_be_decoded(world):
    """RFC 9204 § 2.2, § 6: a table that we never offered, and what is no field line."""
    closes(world, DECOMPRESSION_FAILED, *(lambda client, said=said: client.raw(frame(HEADERS, said)) for said in (
        b"\x02\0\x80", b"\0\0\x80", b"\0\0\x10", b"\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\0\0\x27", b"\0\0\xff\x24", b"\0")))


def a_request_that_does_not_begin(world):
    """§ 4.1: H3_REQUEST_INCOMPLETE."""
    with Client(world) as client:
        assert client.result(client.raw(b"")) == ("reset", INCOMPLETE)
        assert client.get("/well").status == 200


def heads_are_bounded(world):
    """§ 4.2.2: a head that would become more than 64 KiB is a 431; one that is longer ends its stream, gathered or not."""
    with Client(world) as client:
        told = client.ask("/", "GET", *((f"x-{n}", "") for n in range(2_500)))
        assert client.result(told) == ("status", 431)
        assert client.result(client.raw(frame(HEADERS, b"", 1 << 30), end=False)) == ("reset", EXCESSIVE_LOAD)
        told = client.result(client.ask("/", "GET", ("x", "y" * 100_000)))
        assert told in (("reset", EXCESSIVE_LOAD), ("status", 431)), told
        assert client.get("/well").status == 200
        told = client.answer(client.ask("/", "GET", *((f"x-{n}", "1") for n in range(200))))
        assert told.status == 431, told
        assert client.answer(client.ask("/" + "x" * 9_000)).status == 414


def a_head_that_does_not_end_is_given_up(world):
    """Within ten seconds, as an h2 one is; its connection goes on."""
    with Client(world) as client:
        stream = client.raw(head()[:10], end=False)
        assert client.result(stream, 15) == ("reset", INCOMPLETE)
        assert client.get("/well").status == 200


def a_reset_cancels_what_runs(world):
    """§ 4.1.1: the upstream is left alone, whether the answer has begun or not; in the middle of a body, too."""
    asked = origin(world)
    with Client(world) as client:
        for path, more in (("/h3/slow", {}), ("/h3/endless", {}), ("/h3/echo", {"method": "POST", "body": b"x" * 1000, "end": False})):
            before = len(asked.asked)
            stream = client.ask(path, **more)
            if path == "/h3/endless":
                client.until(lambda: client.stream(stream).data)
            elif path == "/h3/slow":
                client.until(lambda: len(asked.asked) > before)
            if "end" in more:
                client.quic.reset_stream(stream, CANCELLED)
            client.quic.stop_stream(stream, CANCELLED)
            client.send()
        assert client.get("/well").status == 200
    logged(world, lambda lines: sum(line.get("cut") == "client" and line["path"].startswith("/h3/") for line in lines) >= 2)


def rapid_reset_ends(world):
    """CVE-2023-44487, over QUIC: requests that are given up at once. The bound of h2: 500, then 50 a second."""
    cpu, counted = world.cpu(), ended(world).get("reset_flood", 0)
    with beside(world), Client(world) as client:
        until = time.time() + 20
        while not client.closed and time.time() < until:
            while client.quic._remote_max_streams_bidi * 4 > client.quic.get_next_available_stream_id():
                stream = client.ask("/h3/slow")
                client.quic.reset_stream(stream, CANCELLED)
                client.quic.stop_stream(stream, CANCELLED)
            client.until(lambda: client.closed or client.quic._remote_max_streams_bidi * 4 > client.quic.get_next_available_stream_id(), 20)
        assert client.ends() == EXCESSIVE_LOAD
    assert world.cpu() - cpu < 8, world.cpu() - cpu
    assert ended(world).get("reset_flood", 0) == counted + 1


def floods_of_frames_that_bring_nothing_end(world):
    """§ 10.5: empty DATA, frames that nobody knows, MAX_PUSH_ID. The bound of h2: 2,000, then 200 a second."""
    counted = ended(world).get("control_flood", 0)

    def flood(client, stream, piece):
        for _ in range(100):
            client.say(stream, piece * 100)
            client.until(lambda: True)
            if client.closed:
                return

    with beside(world):
        closes(
            world, EXCESSIVE_LOAD,
            lambda client: flood(client, client.raw(head("/", "POST"), end=False), frame(DATA)),
            lambda client: flood(client, client.raw(head("/", "POST"), end=False), frame(0x21, b"x")),
            lambda client: flood(client, 2, frame(MAX_PUSH_ID, b"\x01")),
        )
    assert ended(world).get("control_flood", 0) == counted + 3


def a_client_that_reads_nothing_is_bounded(world):
    """Eight of them, each with ten answers of 8 MiB that it never confirms: a megabyte each is held, and nobody else waits."""
    origin(world)
    memory, clients = world.memory(), [Client(world, window=1 << 30) for _ in range(8)]
    with beside(world):
        for client in clients:
            for _ in range(10):
                client.say(client.quic.get_next_available_stream_id(), head("/h3/big"), True)
            client.send()
        time.sleep(3)
        held = world.memory() - memory
    for client in clients:
        client.line.close()
    assert held < 60, f"{held:.0f} MB"


def a_window_that_stays_shut_is_bounded(world):
    """A stream of which the client takes 1 KB: what comes behind stays with the upstream."""
    origin(world)
    memory = world.memory()
    with Client(world, window=1000) as client, beside(world):
        # It confirms packets and opens no window: aioquic opens one when half of it is used.
        client.quic._write_stream_limits = lambda *_, **__: None
        streams = [client.ask("/h3/big") for _ in range(50)]
        until = time.time() + 2
        client.until(lambda: time.time() > until)
        assert all(len(client.stream(stream).data) <= 1000 for stream in streams)
        assert world.memory() - memory < 40, world.memory() - memory
    world.is_well()


def a_body_of_single_bytes_costs_little(world):
    """20,000 frames of a byte: read as the upstream takes them."""
    origin(world)
    memory, cpu = world.memory(), world.cpu()
    with Client(world) as client, beside(world):
        stream = client.raw(head("/h3/echo", "POST"), end=False)
        for _ in range(200):
            client.say(stream, frame(DATA, b"x") * 100)
            client.until(lambda: True)
        client.say(stream, b"", True)
        assert json.loads(client.answer(stream, 60).body)["length"] == 20_000
    assert world.memory() - memory < 24 and world.cpu() - cpu < 10, (world.memory() - memory, world.cpu() - cpu)


def streams_have_a_bound(world):
    """RFC 9000 § 4.6: 128 requests at once, and as many again when they are answered."""
    origin(world)
    with Client(world) as client:
        assert client.quic._remote_max_streams_bidi == 128, client.quic._remote_max_streams_bidi
        streams = [client.ask("/h3/slow") for _ in range(200)]
        for stream in streams:
            assert client.answer(stream, 20).status == 200


def an_answer_that_breaks_is_reset(world):
    """§ 4.1: not ended as if it were whole."""
    origin(world)
    with Client(world) as client:
        kind, _ = client.result(client.ask("/h3/cut"))
        assert kind == "reset", kind


def a_limit_holds_over_all_protocols(world):
    """Two requests by HTTP/1.1, two by h2, two by h3: the seventh is refused, whichever it is."""
    origin(world)
    by_http1 = lambda: int(world.raw(b"GET /few HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").split(b" ")[1])

    def by_h2():
        with H2(world) as client:
            client.send(client.open(1, path="/few"))
            return client.result(1)[1]

    with Client(world) as client:
        by_h3 = lambda: client.result(client.ask("/few"))[1]
        every = (by_http1, by_h2, by_h3)
        assert [ask() for ask in every * 2] == [200] * 6
        assert [ask() for ask in every] == [429] * 3


def certificates_are_chosen_by_name(world):
    """RFC 9001 § 4.4, RFC 6066 § 3: the one for the name; none, and the alert, for a name without."""
    origin(world)
    for name in ("world.test", "other.test"):
        with Client(world, name=name) as client:
            assert client.get("/", authority=name).status == 200  # aioquic has verified it against the authority.
    with Client(world, name="nobody.test") as client:
        assert client.ends() == 0x100 + 112, hex(client.closed.error_code)
    with Client(world, protocols=("hq-interop",)) as client:
        assert client.ends() == 0x100 + 120, "no_application_protocol (RFC 9001 § 8.1)"


def clients_show_certificates_where_they_are_asked(world):
    """The terms of a certificate hold over QUIC; a connection for another name is not enough (421)."""
    origin(world)
    own = tuple(str(world.folder / f"person.{kind}") for kind in ("pem", "key"))
    with Client(world, name="staff.test", certificate=own) as client:
        told = client.get("/h3/echo", authority="staff.test")
        assert told.status == 200 and "client-cert" in json.loads(told.body)["fields"], told
    with Client(world, name="staff.test") as client:
        client.ask("/", authority="staff.test")
        assert client.ends() == 0x100 + 116, "certificate_required"
    with Client(world) as client:
        assert client.get("/", authority="staff.test").status == 421
        assert "client-cert" not in json.loads(client.get("/h3/echo", ("client-cert", ":eA==:")).body)["fields"]


def answers_over_tls_name_it(world):
    """RFC 7838, § 3.1.1: `Alt-Svc`, by HTTP/1.1 and h2 over TLS, and not in clear."""
    world.speaks_http3()
    context = ssl.create_default_context(cadata=world.ca.decode())
    with context.wrap_socket(world.connect(to=world.secure), server_hostname="world.test") as line:
        line.sendall(b"GET / HTTP/1.1\r\nhost: world.test\r\nconnection: close\r\n\r\n")
        said = b""
        while piece := line.recv(65536):
            said += piece
    assert b'alt-svc: h3=":%d"; ma=86400\r\n' % world.secure[1] in said, said
    assert b"alt-svc" not in world.raw(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")


def many_that_only_begin_have_to_show_where_they_are(world):
    """RFC 9000 § 8.1.2: above 64 handshakes in progress, Retry; whoever answers it is served."""
    world.speaks_http3()
    first = [initial(world.secure) for _ in range(100)]
    began, retried = time.time(), 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.connect(world.secure)
        line.settimeout(0.02)
        for datagram in [*first, *[None] * 50]:
            if datagram:
                line.send(datagram)
            try:
                while True:
                    retried += is_retry(line.recv(65536))
            except TimeoutError:
                pass
        assert retried >= 30, retried
        with beside(world), Client(world) as client:
            assert client.quic._retry_source_connection_id, "it was not asked"
            assert client.get("/well").status == 200
    time.sleep(max(0, began + 11 - time.time()))  # Until they are given up.


def random_datagrams_are_nothing(world):
    """RFC 9000 § 5.2: what is no packet, and packets of connections that are none."""
    world.speaks_http3()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line, beside(world):
        line.connect(world.secure)
        begun = initial(world.secure)
        for n in range(2_000):
            line.send((begun[:n % 1200] + bytes([n % 256]) * 40)[:1200] or b"\0")
    with Client(world) as client:
        assert client.get("/well").status == 200


def a_drain_ends_it_with_goaway(world):
    """§ 5.2: what runs is finished, what comes behind GOAWAY is rejected, and then the connection ends; and the port is closed."""
    folder = world.folder / "drained"
    folder.mkdir()
    other = World(world.binary, folder)
    try:
        origin(other)
        with Client(other) as client:
            running = client.ask("/h3/slow")
            assert client.get("/well").status == 200
            running = [client.ask("/h3/slow") for _ in range(3)]
            other.process.terminate()
            client.until(lambda: any(kind == GOAWAY for kind, _ in client.control()), 10, "no GOAWAY")
            late = client.ask("/well")
            assert client.result(late) in (("reset", REJECTED), ("closed", NO_ERROR)), client.result(late)
            for stream in running:
                assert client.answer(stream).body == b"late"
            assert client.ends() == NO_ERROR
        assert other.process.wait(20) == 0
    finally:
        if other.process.poll() is None:
            other.stop()


def it_is_turned_off_and_on_again(world):
    """By the document: what is open is drained, the port is closed, and nobody is told of it."""
    origin(world)
    with Client(world) as client:
        assert client.get("/well").status == 200
        world.document.pop("listeners")
        world.publish()
        assert client.ends() == NO_ERROR
    context = ssl.create_default_context(cadata=world.ca.decode())
    with context.wrap_socket(world.connect(to=world.secure), server_hostname="world.test") as line:
        line.sendall(b"GET / HTTP/1.1\r\nhost: world.test\r\nconnection: close\r\n\r\n")
        assert b"alt-svc" not in line.recv(65536)
    world.log.write_text("")
    world.speaks_http3()
    with Client(world) as client:
        assert client.get("/well").status == 200


CASES = [
    a_request_is_answered,
    a_large_body_goes_both_ways,
    many_streams_at_once,
    trailers_go_both_ways,
    answers_without_a_body,
    a_stream_comes_as_it_is_made,
    grpc_goes_through,
    refusals_are_ours,
    connect_is_refused,
    pseudo_fields_are_all_there_and_once,
    fields_of_one_connection_do_not_come,
    names_and_values_are_sound,
    lengths_are_what_they_say,
    pseudo_fields_in_trailers,
    frames_where_they_may_not_be,
    frames_that_are_cut_off,
    a_body_that_is_cut_off_later,
    the_control_stream_begins_with_settings,
    one_of_each_critical_stream,
    what_nobody_knows_is_skipped,
    pushes_are_not_ours,
    fields_that_cannot_be_decoded,
    a_request_that_does_not_begin,
    heads_are_bounded,
    a_head_that_does_not_end_is_given_up,
    a_reset_cancels_what_runs,
    rapid_reset_ends,
    floods_of_frames_that_bring_nothing_end,
    a_client_that_reads_nothing_is_bounded,
    a_window_that_stays_shut_is_bounded,
    a_body_of_single_bytes_costs_little,
    streams_have_a_bound,
    an_answer_that_breaks_is_reset,
    a_limit_holds_over_all_protocols,
    certificates_are_chosen_by_name,
    clients_show_certificates_where_they_are_asked,
    answers_over_tls_name_it,
    many_that_only_begin_have_to_show_where_they_are,
    random_datagrams_are_nothing,
    a_drain_ends_it_with_goaway,
    it_is_turned_off_and_on_again,
]
