"""Floods of HTTP/2: what costs the client a few bytes must not cost the node memory, a core, or anybody else's answer.

Each has its bound: the connection ends with GOAWAY, is counted, and somebody else is served all the while. What busy and well-meaning
clients do is no flood: cases at the end.
"""

import struct
import threading
import time

from frames import (ACK, CANCEL, CLOSED, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, HEADER_TABLE_SIZE,
                    INITIAL_WINDOW_SIZE, PADDED, PING, PREFACE, PROTOCOL_ERROR, REFUSED_STREAM, RST_STREAM, Client, beside, ended, frame, ping,
                    priority, reset, settings, text, window)

# What a flood of one connection may leave behind, in MB, and take in seconds of a processor: of a build for debugging, too.
MEMORY, SECONDS = 24, 2.0
TIMES = 20_000


def flooded(world, frames, reason, before=None, code=ENHANCE_YOUR_CALM, times=TIMES):
    """Four connections, one after the other, send these until they are ended, and are told why."""
    memory, cpu, counted = world.memory(), world.cpu(), ended(world).get(reason, 0)
    with beside(world):
        for _ in range(4):
            with Client(world) as client:
                if before is not None:
                    before(client)
                client.flood(frames, times)
                assert client.ends() == code
    assert world.memory() - memory < MEMORY, f"{world.memory() - memory:.0f} MB are left"
    assert world.cpu() - cpu < 4 * SECONDS, f"{world.cpu() - cpu:.1f} s"
    until(lambda: ended(world).get(reason, 0) >= counted + 4, f"not counted as {reason}: {ended(world)}")


def until(true, what):
    end = time.time() + 10
    while not true():
        assert time.time() < end, what
        time.sleep(0.05)


def upload(client, path="/"):
    """A request whose body has not ended."""
    client.send(client.open(1, end=False, method="POST", path=path))


def a_flood_of_settings_ends(world):
    """CVE-2019-9515. RFC 9113 § 6.5, § 10.5: each has to be acknowledged and applied to all streams."""
    flooded(world, settings((INITIAL_WINDOW_SIZE, 0), (INITIAL_WINDOW_SIZE, 65535)), "control_flood")


def a_flood_of_empty_settings_ends(world):
    """CVE-2019-9515. § 6.5."""
    flooded(world, settings(), "control_flood")


def a_flood_of_pings_ends(world):
    """CVE-2019-9512. § 6.7: each has to be answered."""
    flooded(world, ping(), "control_flood")


def a_flood_of_pongs_ends(world):
    """§ 6.7: answers nobody asked for."""
    flooded(world, ping(flags=ACK), "control_flood")


def a_flood_of_window_updates_of_the_connection_ends(world):
    """§ 6.9: room for what is not sent."""
    flooded(world, window(0, 1), "control_flood")


def a_flood_of_window_updates_of_a_stream_ends(world):
    """§ 6.9."""
    flooded(world, window(1, 1), "control_flood", before=upload)


def a_flood_of_priorities_ends(world):
    """CVE-2019-9513. § 5.3.2, § 6.3: deprecated, and still to be read."""
    flooded(world, priority(1, 3) + priority(3, 5) + priority(5, 1), "control_flood")


def a_flood_of_priority_updates_ends(world):
    """RFC 9218 § 7.1."""
    flooded(world, frame(0x10, payload=struct.pack(">I", 1) + b"u=1"), "control_flood")


def a_flood_of_frames_that_nobody_knows_ends(world):
    """§ 5.5: they are to be ignored, but not for ever."""
    flooded(world, frame(0xEE, 0xFF, 7, b"anything"), "control_flood")


def a_flood_of_empty_data_ends(world):
    """CVE-2019-9518. § 6.1, § 10.5."""
    flooded(world, frame(DATA, stream=1), "enhance_your_calm", before=upload)


def a_flood_of_padding_ends(world):
    """§ 6.1: data that is nothing but padding."""
    flooded(world, frame(DATA, PADDED, 1, b"\0"), "enhance_your_calm", before=upload)


def a_flood_of_goaways_ends(world):
    """§ 6.8. One of them says that the client leaves, and so it may be left before it is a flood."""
    with beside(world), Client(world) as client:
        client.flood(frame(GOAWAY, payload=bytes(8)), TIMES)
        assert client.ends() is not None


def a_mixture_ends_as_well(world):
    """Each of them alone would last longer."""
    flooded(world, ping() + window(0, 1) + priority(7) + settings() + frame(0xEE), "control_flood")


def endless_continuations_end(world):
    """CVE-2024-27316. § 6.10: a block that never ends, with fields in it."""
    field = b"\0" + text(b"x" * 20) + text(b"y" * 20)
    before = lambda client: client.send(frame(HEADERS, END_STREAM, 1, client.head()))
    flooded(world, frame(CONTINUATION, stream=1, payload=field), "enhance_your_calm", before)


def endless_empty_continuations_end(world):
    """CVE-2024-27316. § 6.10, § 10.5.1."""
    before = lambda client: client.send(frame(HEADERS, END_STREAM, 1, client.head()))
    flooded(world, frame(CONTINUATION, stream=1), "enhance_your_calm", before)


def continuations_of_one_endless_string_end(world):
    """§ 6.10: no field is ever complete, so that none can be counted."""
    before = lambda client: client.send(frame(HEADERS, END_STREAM, 1, b"\0\x7f\xff\xff\xff\x07"))
    with beside(world), Client(world) as client:
        memory = world.memory()
        before(client)
        client.flood(frame(CONTINUATION, stream=1, payload=b"a" * 16384), 400)
        assert client.ends() is not None
        assert world.memory() - memory < MEMORY


def a_header_list_that_is_too_large_is_refused_and_then_ends(world):
    """§ 10.5.1: read on for the table's sake, but not for ever."""
    fields = b"".join(b"\0" + text(b"x" * 20) + text(b"y" * 100) for _ in range(120))
    memory = world.memory()
    with beside(world), Client(world) as client:
        client.send(frame(HEADERS, END_STREAM, 1, client.head() + fields[:8000]))
        client.flood(frame(CONTINUATION, stream=1, payload=fields[:16000]), 400)
        assert client.ends() is not None
    with Client(world) as client:
        block = client.head() + b"".join(b"\0" + text(b"x%d" % n) + text(b"y" * 100) for n in range(600))
        pieces = [block[at:at + 16384] for at in range(0, len(block), 16384)]
        client.send(frame(HEADERS, END_STREAM, 1, pieces[0]), *(frame(CONTINUATION, 0, 1, piece) for piece in pieces[1:-1]),
                    frame(CONTINUATION, END_HEADERS, 1, pieces[-1]))
        assert client.result(1) == ("status", 431)
        client.send(client.open(3))
        assert client.result(3) == ("status", 200)
    assert world.memory() - memory < MEMORY


def a_bomb_of_indexed_fields_is_refused(world):
    """RFC 7541 § 7.3, CVE-2016-6581: a byte each that stand for 4 KB."""
    memory, cpu = world.memory(), world.cpu()
    with beside(world):
        for _ in range(8):
            with Client(world) as client:
                client.send(client.open(1, client.head() + b"\x40" + text(b"bomb") + b"\x7f\xa1\x1e" + b"b" * 4000))
                for stream in range(3, 41, 2):
                    client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x82\x86\x84\x41\x01a" + b"\xbe" * 16000))
                assert client.is_alive() or client.ends() in (ENHANCE_YOUR_CALM, CLOSED)
    assert world.memory() - memory < MEMORY, f"{world.memory() - memory:.0f} MB"
    assert world.cpu() - cpu < 8 * SECONDS, f"{world.cpu() - cpu:.1f} s"


def a_bomb_of_cookie_crumbs_is_refused(world):
    """RFC 9113 § 8.2.3: crumbs are joined, and counted before."""
    memory = world.memory()
    with beside(world), Client(world) as client:
        for stream in range(1, 41, 2):
            client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x82\x86\x84\x41\x01a" + b"\x60\x01a" + b"\xbe" * 12000))
        assert client.is_alive() or client.ends() in (ENHANCE_YOUR_CALM, CLOSED)
    assert world.memory() - memory < MEMORY


def changes_of_the_table_size_cost_nothing(world):
    """RFC 7541 § 6.3: a block that is full of them."""
    cpu, memory = world.cpu(), world.memory()
    with beside(world), Client(world, (HEADER_TABLE_SIZE, 4096)) as client:
        for stream in range(1, 201, 2):
            client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x20\x3f\xe1\x1f" * 4000 + b"\x82\x86\x84\x41\x01a"))
        assert client.is_alive() or client.ends() in (ENHANCE_YOUR_CALM, PROTOCOL_ERROR, CLOSED)
    assert world.cpu() - cpu < 4 * SECONDS and world.memory() - memory < MEMORY


def settings_of_the_table_size_leave_no_memory(world):
    """§ 6.5.2: a peer's table may be as large as it likes; ours stays small."""
    memory = world.memory()
    with beside(world):
        for _ in range(20):
            with Client(world, (HEADER_TABLE_SIZE, 0xFFFFFFFF)) as client:
                for stream in range(1, 41, 2):
                    client.send(client.open(stream))
                    assert client.result(stream) == ("status", 200)
    assert world.memory() - memory < MEMORY


def rapid_reset_ends(world):
    """CVE-2023-44487: requests that are given up in the same breath."""
    memory, counted = world.memory(), sum(ended(world).get(reason, 0) for reason in ("enhance_your_calm", "reset_flood"))
    with beside(world):
        for _ in range(4):
            with Client(world) as client:
                pairs = [client.open(stream) + reset(stream) for stream in range(1, 8001, 2)]
                client.send(*pairs)
                assert client.ends() == ENHANCE_YOUR_CALM
    assert world.memory() - memory < MEMORY
    assert world.plain.requests < 4 * 1_000, f"{world.plain.requests} of 16,000 requests went on"
    until(lambda: sum(ended(world).get(reason, 0) for reason in ("enhance_your_calm", "reset_flood")) >= counted + 4, "not counted")


def resets_of_what_has_begun_end(world):
    """CVE-2023-44487, more patient: each stream has been looked at when it is given up, and none is answered."""
    counted = ended(world).get("reset_flood", 0)
    with beside(world), Client(world) as client:
        for stream in range(1, 2401, 2):
            if not client.send(client.open(stream, end=False, method="POST"), ping()):
                break
            if client.until(lambda heard: heard.kind in (PING, GOAWAY)).kind == GOAWAY:
                break
            client.send(reset(stream))
        else:
            raise AssertionError("1,200 streams were given up")
        assert stream < 1600, f"only at stream {stream}"
    until(lambda: ended(world).get("reset_flood", 0) == counted + 1, "not counted")


def made_you_reset(world, provoke, at_most=400):
    """The node is made to reset streams of whose requests it is at work."""
    with beside(world), Client(world) as client:
        resets, stream = 0, 1
        while stream < 2 * 4000:
            if not client.send(*(provoke(client, each) for each in range(stream, stream + 40, 2)), ping(b"position")):
                break
            stream += 40
            while (heard := client.next()) is not None and heard.kind != PING:
                resets += heard.kind == RST_STREAM
                if heard.kind == GOAWAY:
                    assert int.from_bytes(heard.payload[4:8]) in (ENHANCE_YOUR_CALM, PROTOCOL_ERROR, 5, 3)
                    assert resets <= at_most, resets
                    return
            if heard is None:
                break
    assert resets <= at_most, f"{resets} streams were reset"


def resets_by_windows_of_nothing_end(world):
    """CVE-2025-8671 (made you reset): a window update of 0 (§ 6.9)."""
    made_you_reset(world, lambda client, stream: client.open(stream, end=False, method="POST") + window(stream, 0))


def resets_by_windows_that_overflow_end(world):
    """CVE-2025-8671: § 6.9.1."""
    made_you_reset(world, lambda client, stream: client.open(stream, end=False, method="POST") + window(stream, 0x7FFFFFFF))


def resets_by_data_behind_the_end_end(world):
    """CVE-2025-8671: DATA on a stream that the client has ended (§ 5.1)."""
    made_you_reset(world, lambda client, stream: client.open(stream) + frame(DATA, 0, stream, b"x"))


def resets_by_heads_behind_the_end_end(world):
    """CVE-2025-8671: HEADERS on a stream that the client has ended (§ 5.1)."""
    made_you_reset(world, lambda client, stream: client.open(stream) + client.open(stream))


def resets_by_lengths_that_are_wrong_end(world):
    """CVE-2025-8671: more body than was announced (§ 8.1.1)."""
    more = ("content-length", "1")
    made_you_reset(world, lambda client, stream: frame(HEADERS, END_HEADERS, stream, client.head("/", "POST", more)) + frame(DATA, 0, stream, b"long"))


def resets_by_streams_that_depend_on_themselves_end(world):
    """CVE-2025-8671: PRIORITY (§ 5.3.1 of RFC 7540)."""
    made_you_reset(world, lambda client, stream: client.open(stream, end=False, method="POST") + priority(stream, stream))


def resets_by_malformed_requests_end(world):
    """CVE-2025-8671: § 8.3.1, a request without a path."""
    made_you_reset(world, lambda client, stream: client.open(stream, client.head(without=(":path",))))


def too_many_streams_are_refused_and_then_end(world):
    """§ 5.1.2: beyond what we announced, REFUSED_STREAM; who goes on has not understood."""
    memory, refused, code = world.memory(), 0, None
    with beside(world), Client(world) as client:
        for stream in range(1, 4001, 2):
            client.send(client.open(stream, end=False, method="POST"))
        while code is None and (heard := client.next()) is not None:
            refused += heard.kind == RST_STREAM and int.from_bytes(heard.payload) == REFUSED_STREAM
            if heard.kind == GOAWAY:
                code = int.from_bytes(heard.payload[4:8])
        assert code == ENHANCE_YOUR_CALM and 0 < refused <= 400, (code, refused)
    assert world.memory() - memory < MEMORY


def answers_that_nobody_takes_are_not_gathered(world):
    """CVE-2019-9511, -9517: windows stay shut, and each stream asks for a megabyte. What waits is bounded, and goes with its client."""
    world.odd.script = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + b"a" * 1_000_000
    memory, clients = world.memory(), []
    with beside(world):
        for shut in (0, 1, 0, 1):
            client = Client(world, (INITIAL_WINDOW_SIZE, shut))
            clients.append(client)
            client.send(*(client.open(stream, path="/odd/x") for stream in range(1, 201, 2)))
        time.sleep(1.5)
        held = world.memory() - memory
        for client in clients:
            client.line.close()
    assert held < 200, f"{held:.0f} MB are held for 400 streams"


def windows_of_one_byte_end(world):
    """CVE-2019-9511 (data dribble): an answer taken byte by byte costs a frame, a turn and a write each."""
    world.odd.script = b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n" + b"a" * 200_000
    cpu, counted = world.cpu(), ended(world).get("control_flood", 0)
    with beside(world), Client(world, (INITIAL_WINDOW_SIZE, 0)) as client:
        client.send(client.open(1, path="/odd/x"))
        assert client.result(1) == ("status", 200)
        client.flood(window(1, 1), TIMES)
        assert client.ends() == ENHANCE_YOUR_CALM
    assert world.cpu() - cpu < 2 * SECONDS, f"{world.cpu() - cpu:.1f} s"
    until(lambda: ended(world).get("control_flood", 0) == counted + 1, "not counted")


def a_body_of_single_bytes_costs_little(world):
    """CVE-2019-9511: a frame for each byte of a body."""
    memory, cpu = world.memory(), world.cpu()
    with beside(world), Client(world) as client:
        upload(client)
        client.flood(frame(DATA, stream=1, payload=b"x"), 5_000)
        assert client.is_alive() or client.ends() == ENHANCE_YOUR_CALM
    assert world.memory() - memory < MEMORY and world.cpu() - cpu < 3 * SECONDS, (world.memory() - memory, world.cpu() - cpu)


def an_endless_body_is_refused(world):
    """RFC 9110 § 15.5.14: more than a body may have, however it is said."""
    memory = world.memory()
    with beside(world):
        with Client(world) as client:
            client.send(frame(HEADERS, END_HEADERS, 1, client.head("/", "POST", ("content-length", "99999999"))))
            assert client.result(1) == ("status", 413)
        with Client(world) as client:
            said = endless(client)
            assert said == ("status", 413), said
    assert world.memory() - memory < MEMORY, f"{world.memory() - memory:.0f} MB"


def endless(client):
    """Sends within its windows, until it is told something."""
    upload(client, "/small/x")
    room, piece = {0: 65535, 1: client.theirs[INITIAL_WINDOW_SIZE]}, frame(DATA, stream=1, payload=b"x" * 16384)
    for heard in iter(client.next, None):
        if heard.kind == 8:
            room[heard.stream] += int.from_bytes(heard.payload)
        if heard.kind == HEADERS:
            return "status", int(heard.fields[":status"])
        if heard.kind == RST_STREAM:
            return "reset", int.from_bytes(heard.payload)
        while min(room.values()) >= 16384 and client.send(piece):
            room = {stream: left - 16384 for stream, left in room.items()}
    return ("closed",)


def a_client_that_reads_nothing_is_bounded(world):
    """CVE-2019-9517: answers and acknowledgements pile up before a socket that is full: 500 of a megabyte, which are not asked of their
    upstream while nobody takes them."""
    world.odd.script = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + b"a" * 1_000_000
    memory, clients = world.memory(), []
    with beside(world):
        for _ in range(4):
            client = Client(world, (INITIAL_WINDOW_SIZE, 0x7FFFFFFF), receive=2048, timeout=1)
            clients.append(client)
            client.send(window(0, 0x7FFF0000 - 65535), *(client.open(stream, path="/odd/x") for stream in range(1, 251, 2)))
            client.send(*[ping() for _ in range(1500)])
        time.sleep(2)
        held = world.memory() - memory
        for client in clients:
            client.line.close()
    assert held < 160, f"{held:.0f} MB are held"


def connections_that_say_nothing_are_bounded_in_time(world):
    """Slowloris. A preface that does not come, a head that does not end: ten seconds each. An open stream excuses no slow head."""
    memory, counted = world.memory(), ended(world).get("head_timeout", 0)
    silent = [world.connect() for _ in range(200)]
    half = [world.connect() for _ in range(100)]
    for line in half:
        line.sendall(PREFACE[:10])
    slow = [Client(world) for _ in range(4)]
    for n, client in enumerate(slow):
        if n % 2:
            client.send(client.open(1, end=False, method="POST"))
        client.send(frame(HEADERS, END_STREAM, 3, client.head()) if n < 2 else frame(HEADERS, 5, 3, b"\x82", length=500))
    lines = silent + half + [client.line for client in slow]
    until(lambda: world.holds(lines) == 304, "not all were accepted")
    assert world.memory() - memory < MEMORY, f"{world.memory() - memory:.0f} MB"
    began, dribbles = time.time(), frame(CONTINUATION, stream=3, payload=bytes(500))
    with beside(world):
        while time.time() < began + 25 and world.holds(lines) > 0:
            for client in slow[:2]:
                client.send(dribbles[:1])
            dribbles = dribbles[1:]
            time.sleep(0.5)
    took = time.time() - began
    assert 5 < took < 20, f"{took:.0f} s"
    until(lambda: ended(world).get("head_timeout", 0) >= counted + 4, f"not counted: {ended(world)}")
    for line in silent + half:
        line.close()


# What is no flood.

def a_download_with_a_window_update_for_each_kilobyte_is_no_flood(world):
    """RFC 9113 § 6.9: some clients take what they get in small pieces, and say so each time."""
    world.odd.script = b"HTTP/1.1 200 OK\r\ncontent-length: 6000000\r\n\r\n" + b"a" * 6_000_000
    with Client(world) as client:
        client.send(client.open(1, path="/odd/x"))
        got = updates = 0
        while got < 6_000_000:
            heard = client.next()
            assert heard is not None and heard.kind != GOAWAY, (got, heard)
            if heard.kind == DATA:
                got += len(heard.payload)
                parts = [min(1024, len(heard.payload) - at) for at in range(0, len(heard.payload), 1024)]
                updates += 2 * len(parts)
                client.send(b"".join(window(0, part) + window(1, part) for part in parts))
        assert updates > 10_000 and client.is_alive()


def streams_of_tiny_messages_are_no_flood(world):
    """gRPC: messages of a few bytes, a window update for each of them and each stream, and a ping now and then."""
    message = b"\0\0\0\0\x07message"
    world.odd.script = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + (b"c\r\n" + message + b"\r\n") * 20_000 + b"0\r\n\r\n"
    with Client(world) as client:
        client.send(client.open(1, path="/odd/x"))
        got = 0
        while got < 20_000 * len(message):
            heard = client.next()
            assert heard is not None and heard.kind != GOAWAY, (got, heard)
            if heard.kind == DATA and heard.payload:
                got += len(heard.payload)
                client.send(window(0, len(heard.payload)), window(1, len(heard.payload)), ping())
        client.send(client.open(3, end=False, method="POST"))
        for _ in range(40):
            client.send(*[frame(DATA, stream=3, payload=message) for _ in range(100)])
            assert client.is_alive()
        client.send(frame(DATA, END_STREAM, 3))
        assert client.result(3) == ("status", 200)


def many_calls_that_end_in_an_empty_frame_are_no_flood(world):
    """gRPC: clients end a call by DATA without a byte. A connection may have thousands of calls, with priorities of their own."""
    with Client(world) as client:
        for stream in range(1, 2401, 2):
            assert client.send(priority(stream, 0), client.open(stream, end=False, method="POST"), frame(DATA, 0, stream, b"call"),
                               frame(0x10, payload=struct.pack(">I", stream) + b"u=3"), frame(DATA, END_STREAM, stream), window(stream, 100), ping())
            if stream % 20 == 1:
                assert client.result(stream) == ("status", 200), stream
                assert client.is_alive(), stream


def who_gives_up_what_was_answered_is_no_flood(world):
    """RST_STREAM behind an answer, and a few hundred before one: a browser whose page is left."""
    with Client(world) as client:
        for stream in range(1, 2001, 2):
            client.send(client.open(stream))
            if stream % 50 == 1:
                assert client.result(stream) == ("status", 200)
            client.send(reset(stream)) if stream % 10 == 1 else None
        for stream in range(2001, 2401, 2):
            client.send(client.open(stream, end=False, method="POST"))
            assert client.is_alive(), stream
            client.send(reset(stream))
        assert client.is_alive()


def a_ping_a_second_for_an_hour_is_no_flood(world):
    """Health checks of clients and load balancers: 1,800 frames at once are what an hour of them comes to."""
    with Client(world) as client:
        client.send(*[ping() for _ in range(1_800)])
        assert client.is_alive()
        time.sleep(0.5)
        client.send(*[ping() for _ in range(60)])
        assert client.is_alive()


CASES = [case for name, case in list(globals().items())
         if callable(case) and getattr(case, "__module__", "") == __name__ and case.__doc__ and name not in ("flooded", "upload", "endless", "made_you_reset")]
