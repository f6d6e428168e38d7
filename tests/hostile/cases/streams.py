"""HTTP/2 by the letter: RFC 9113 and RFC 7541, section by section. What a stream error ends may end the connection (RFC 9113 § 5.4.2);
a malformed request may be answered 400 as well (§ 8.1.1). What is right is served, and the connection lives on."""

import struct

from frames import (ACK, CANCEL, CLOSED, COMPRESSION_ERROR, CONTINUATION, DATA, ENABLE_PUSH, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR,
                    FRAME_SIZE_ERROR, GOAWAY, HEADERS, HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE,
                    MAX_HEADER_LIST_SIZE, PADDED, PING, PREFACE, PRIORITISED, PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE, REFUSED_STREAM,
                    RST_STREAM, SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, Client, frame, ping, priority, reset, settings, text, window)

CASES = []

# `:method: GET`, `:scheme: http`, `:path: /`, `:authority: a`
GET = b"\x82\x86\x84\x41\x01a"
POST = b"\x83\x86\x84\x41\x01a"
WHOLE = END_HEADERS | END_STREAM


def case(run):
    CASES.append(run)
    return run


def cases(judge, section, expected, table):
    """A case for each row: name, and what is sent (bytes, or made by a function of the client)."""
    for name, frames in table.items():
        def run(world, frames=frames):
            with Client(world) as client:
                client.send(frames if isinstance(frames, bytes) else frames(client))
                judge(world, client, expected)
        run.__name__, run.__doc__ = name, section
        CASES.append(run)


def connection_error(world, client, codes):
    code = client.ends()
    assert code in codes, f"{code}, not one of {codes}"


def stream_error(world, client, codes):
    """Of stream 1."""
    said = client.result(1)
    assert said[0] in ("reset", "goaway") and said[1] in codes or said == ("status", 400), said


def malformed(world, client, codes):
    """And nobody behind us hears of it."""
    stream_error(world, client, codes)
    assert world.plain.requests == 0, world.plain.all()


def served(world, client, status):
    """Stream 1 is answered, and so is another one after it."""
    said = client.result(1)
    assert said == ("status", status), said
    client.send(client.open(99))
    assert client.result(99) == ("status", 200)


def goes_on(world, client, _):
    assert client.is_alive()
    client.send(client.open(99))
    assert client.result(99) == ("status", 200)


def head(flags=WHOLE, block=GET, stream=1):
    return frame(HEADERS, flags, stream, block)


def data(payload=b"x", flags=0, stream=1):
    return frame(DATA, flags, stream, payload)


def goaway(code=0, stream=0):
    return frame(GOAWAY, stream=stream, payload=struct.pack(">II", 0, code))


def depending(on, weight=15):
    return struct.pack(">IB", on, weight)


def literal(name, value, kind=b"\0"):
    return kind + text(name) + text(value)


# § 3.4: the preface.

@case
def the_preface_is_answered_with_settings(world):
    """RFC 9113 § 3.4: the server's preface is a SETTINGS frame, the first it sends."""
    with Client(world, greet=False) as client:
        client.send(PREFACE, settings())
        first = client.next()
        assert first.kind == SETTINGS and not first.flags & ACK and first.stream == 0, first
        assert client.until(lambda heard: heard.kind == SETTINGS and heard.flags & ACK) is not None


@case
def a_preface_in_pieces_is_understood(world):
    """RFC 9113 § 3.4."""
    with Client(world, greet=False) as client:
        for byte in PREFACE + settings() + head():
            client.send(bytes([byte]))
        assert client.result(1) == ("status", 200)


@case
def a_wrong_preface_ends_it(world):
    """RFC 9113 § 3.4: GOAWAY may be left out, since this is not HTTP/2."""
    for wrong in (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", b"INVALID * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\nx\r\n"):
        with Client(world, greet=False) as client:
            client.send(wrong, settings(), head())
            said = b""
            while piece := client.line.recv(65536):
                said += piece
            assert b"\x88" not in said.split(b"HTTP/1.1 4")[0][:64], said


@case
def the_first_frame_has_to_be_settings(world):
    """RFC 9113 § 3.4: an invalid preface is a connection error of PROTOCOL_ERROR."""
    for first in (head(), ping(), window(0, 1), frame(SETTINGS, ACK)):
        with Client(world, greet=False) as client:
            client.send(PREFACE, first, settings())
            assert client.ends() in (PROTOCOL_ERROR, CLOSED)
    assert world.plain.requests == 0


# § 4: frames.

cases(served, "RFC 9113 § 4.1: unknown types and flags are ignored, the reserved bit is too.", 200, {
    "a_frame_of_an_unknown_type_is_ignored": frame(0x16, 0, 0, b"12345678") + head(),
    "a_frame_of_an_unknown_type_on_a_stream_is_ignored": frame(0xFF, 0xFF, 1, bytes(100)) + head(),
    "undefined_flags_are_ignored": frame(PING, 0x16, 0, bytes(8)) + head(),
    "undefined_flags_of_a_request_are_ignored": head(WHOLE | 0x40 | 0x80 | 0x10),
    "the_reserved_bit_is_ignored": struct.pack(">I", 8)[1:] + bytes([PING, 0, 0x80, 0, 0, 0]) + bytes(8) + head(),
    "the_reserved_bit_of_a_request_is_ignored": frame(HEADERS, WHOLE, 0x80000001, GET),
})

cases(served, "RFC 9113 § 4.2: every frame of 2^14 bytes has to be understood.", 200, {
    "data_of_the_largest_size_is_taken": head(END_HEADERS, POST) + data(b"x" * 16384, END_STREAM),
    "a_request_of_the_largest_size_is_taken": head(block=GET + b"\0\x01x\x7f\xf5\x7e" + b"y" * 16372),
})

cases(connection_error, "RFC 9113 § 4.2: FRAME_SIZE_ERROR for what is larger than announced, or has the wrong size.", (FRAME_SIZE_ERROR,), {
    "data_larger_than_announced": lambda client: head(END_HEADERS, POST) + data(b"x" * (client.theirs.get(MAX_FRAME_SIZE, 16384) + 1)),
    "a_request_larger_than_announced": lambda client: head(WHOLE, GET + b"\0" * (client.theirs.get(MAX_FRAME_SIZE, 16384) + 1)),
    "settings_larger_than_announced": frame(SETTINGS, payload=bytes(6 * 2731)),
})

cases(connection_error, "RFC 9113 § 4.3: a field block that cannot be decompressed. The h2 crate says PROTOCOL_ERROR.",
      (COMPRESSION_ERROR, PROTOCOL_ERROR), {
    "a_block_that_is_none": head(WHOLE, b"\xff\xff\xff\xff\xff\xff\xff\xff"),
    "a_block_that_is_cut": head(WHOLE, GET + b"\x40\x0a"),
    "a_block_that_is_cut_in_a_value": head(WHOLE, GET + b"\0\x01a\x7f\x00abc"),
})

cases(connection_error, "RFC 9113 § 4.3, § 6.10: nothing comes between the frames of one field block.", (PROTOCOL_ERROR,), {
    "a_priority_within_a_block": head(END_STREAM) + priority(1) + frame(CONTINUATION, END_HEADERS, 1),
    "another_stream_within_a_block": head(END_STREAM) + head(stream=3),
    "a_ping_within_a_block": head(END_STREAM) + ping() + frame(CONTINUATION, END_HEADERS, 1),
    "an_unknown_frame_within_a_block": head(END_STREAM) + frame(0x16, 0, 1, b"x") + frame(CONTINUATION, END_HEADERS, 1),
    "a_continuation_of_another_stream_within_a_block": head(END_STREAM) + frame(CONTINUATION, END_HEADERS, 3),
    "data_within_a_block": head(0, POST) + data(),
    "settings_within_a_block": head(END_STREAM) + settings(),
})

# § 5.1: states of streams.

cases(connection_error, "RFC 9113 § 5.1, idle: anything but HEADERS and PRIORITY is a connection error of PROTOCOL_ERROR.", (PROTOCOL_ERROR,), {
    "data_on_an_idle_stream": data(),
    "empty_data_on_an_idle_stream": data(b"", END_STREAM),
    "a_reset_of_an_idle_stream": reset(1),
    "a_window_update_of_an_idle_stream": window(1, 100),
    "a_continuation_on_an_idle_stream": frame(CONTINUATION, END_HEADERS, 1, GET),
    "a_reset_of_an_idle_stream_between_others": head() + reset(3),
})

cases(goes_on, "RFC 9113 § 5.1: what a stream may still get when it is idle, half-closed or closed.", None, {
    "a_priority_of_an_idle_stream": priority(1, 0) + priority(201, 0),
    "a_window_update_of_a_half_closed_stream": head() + window(1, 10),
    "a_priority_of_a_half_closed_stream": head() + priority(1, 0),
    "a_reset_of_a_half_closed_stream": head() + reset(1),
    "a_window_update_of_a_closed_stream": head() + reset(1) + window(1, 10),
    "a_reset_of_a_closed_stream": head() + reset(1) + reset(1),
    "a_priority_of_a_closed_stream": head() + reset(1) + priority(1, 0),
    "a_priority_of_another_stream_within_a_body": head(END_HEADERS, POST) + priority(3, 1) + data(b"x", END_STREAM),
})

def is_refused(client, wrong):
    """The stream ends, or the connection."""
    heard = client.until(lambda heard: heard.kind in (RST_STREAM, GOAWAY))
    assert heard is not None, wrong
    code = int.from_bytes(heard.payload[-4:] if heard.kind == RST_STREAM else heard.payload[4:8])
    assert code in (STREAM_CLOSED, PROTOCOL_ERROR), code


@case
def data_on_a_half_closed_stream(world):
    """RFC 9113 § 5.1, half-closed (remote): an error, and never part of the body."""
    for wrong in (data(b"more"), data(b"more", END_STREAM), head(), frame(HEADERS, WHOLE, 1, literal(b"x", b"y")), frame(CONTINUATION, END_HEADERS, 1, b"")):
        with Client(world) as client:
            client.send(head(WHOLE, POST), wrong, ping(b"position"))
            is_refused(client, wrong)
    assert b"more" not in b"".join(world.plain.all())


@case
def data_on_a_closed_stream(world):
    """RFC 9113 § 5.1, closed: STREAM_CLOSED, or it is ignored where it may have been sent before the reset came."""
    for wrong in (data(b"more"), head(WHOLE, GET), frame(CONTINUATION, END_HEADERS, 1, b"")):
        with Client(world) as client:
            client.send(client.open(1))
            assert client.result(1) == ("status", 200)
            client.until(lambda heard: heard.kind == DATA and heard.flags & END_STREAM)
            client.send(wrong)
            is_refused(client, wrong)
    assert b"more" not in b"".join(world.plain.all())


@case
def anything_on_a_stream_that_the_client_reset(world):
    """RFC 9113 § 5.1: who sent RST_STREAM sends no more on that stream."""
    for wrong in (data(b"more"), head(WHOLE, GET), frame(CONTINUATION, END_HEADERS, 1, b"")):
        with Client(world) as client:
            client.send(head(END_HEADERS, POST), reset(1), wrong)
            is_refused(client, wrong)
    assert b"more" not in b"".join(world.plain.all())


@case
def what_was_under_way_when_we_reset_a_stream_is_ignored(world):
    """RFC 9113 § 5.1, closed: an endpoint that sent RST_STREAM has to put up with what the peer had sent already."""
    with Client(world) as client:
        client.send(frame(HEADERS, END_HEADERS, 1, client.head("/", "POST", ("content-length", "99999999"))))
        assert client.result(1) == ("status", 413)
        client.send(data(b"more"), data(b"more"))
        goes_on(world, client, None)


cases(connection_error, "RFC 9113 § 5.1.1: streams of clients are odd, and each higher than the last.", (PROTOCOL_ERROR,), {
    "a_stream_with_an_even_number": head(stream=2),
    "a_stream_with_a_lower_number": head(stream=5) + head(stream=3),
})


@case
def streams_that_were_passed_over_are_closed(world):
    """RFC 9113 § 5.1.1: the first use of a stream closes all idle ones below it."""
    for wrong in (data(stream=3), window(3, 1), reset(3)):
        with Client(world) as client:
            client.send(head(stream=5), wrong)
            client.result(5)
            assert client.is_alive() or client.ends() in (STREAM_CLOSED, PROTOCOL_ERROR, CLOSED)


@case
def more_streams_than_announced_are_refused(world):
    """RFC 9113 § 5.1.2: REFUSED_STREAM, so that they may be tried again; those before go on."""
    with Client(world) as client:
        most = client.theirs[MAX_CONCURRENT_STREAMS]
        client.send(*(head(END_HEADERS, POST, stream) for stream in range(1, 2 * most, 2)), head(stream=2 * most + 1))
        assert client.result(2 * most + 1) == ("reset", REFUSED_STREAM)
        client.send(data(b"x", END_STREAM, 1))
        assert client.result(1) == ("status", 200)


cases(stream_error, "RFC 9113 § 5.3.1 (RFC 7540): a stream cannot depend on itself.", (PROTOCOL_ERROR,), {
    "a_request_that_depends_on_itself": head(WHOLE | PRIORITISED, depending(1) + GET),
    "a_priority_that_depends_on_itself": lambda client: head(END_HEADERS, POST) + priority(1, 1),
})

cases(served, "RFC 9113 § 5.3.2: priorities are read, and mean nothing.", 200, {
    "a_priority_of_the_least_weight": priority(1, 0, 0) + head(),
    "a_priority_of_the_greatest_weight": priority(1, 0, 255) + head(),
    "a_priority_with_a_dependency": priority(3, 0) + priority(1, 3) + head(),
    "an_exclusive_priority": priority(3, 0) + priority(1, 0x80000003) + head(),
    "a_priority_of_a_higher_stream_leaves_lower_ones_idle": priority(201, 0) + head(),
})

# § 5.4: errors.

@case
def goaway_is_followed_by_the_end(world):
    """RFC 9113 § 5.4.1: GOAWAY names the last stream, and the connection is closed behind it."""
    with Client(world) as client:
        client.send(head(), head(stream=3))
        client.result(3)
        client.send(frame(PING, payload=b"short"))
        last = client.until(lambda heard: heard.kind == GOAWAY)
        assert last is not None and int.from_bytes(last.payload[:4]) == 3, last
        assert client.next() is None and not client.silent


@case
def an_error_of_one_stream_leaves_the_others(world):
    """RFC 9113 § 5.4.2."""
    with Client(world) as client:
        client.send(head(END_HEADERS, POST), head(END_HEADERS, POST, 3), window(1, 0x7FFFFFFF))
        assert client.result(1) == ("reset", FLOW_CONTROL_ERROR)
        client.send(data(b"x", END_STREAM, 3))
        assert client.result(3) == ("status", 200)


cases(served, "RFC 9113 § 5.5: what is not known is an extension.", 200, {
    "an_extension_before_a_request": frame(0xF0, 0, 0, bytes(16384)) + head(),
    "an_extension_within_a_body": head(END_HEADERS, POST) + data() + frame(0xF1, 0, 1, b"x") + data(b"", END_STREAM),
})

# § 6.1: DATA.

cases(served, "RFC 9113 § 6.1: DATA, in any number of frames, with padding or without.", 200, {
    "one_frame_of_data": head(END_HEADERS, POST) + data(b"test", END_STREAM),
    "some_frames_of_data": head(END_HEADERS, POST) + data(b"te") + data(b"st") + data(b"", END_STREAM),
    "data_with_padding": head(END_HEADERS, POST) + data(b"\x06test" + bytes(6), END_STREAM | PADDED),
    "data_that_is_all_padding": head(END_HEADERS, POST) + data(b"\x06" + bytes(6), PADDED) + data(b"\0", END_STREAM | PADDED),
})


@case
def padding_is_no_body(world):
    """RFC 9113 § 6.1."""
    with Client(world) as client:
        client.send(head(END_HEADERS, POST), data(b"\x04test" + b"PADD", END_STREAM | PADDED))
        assert client.result(1) == ("status", 200)
    (heard,) = [kept for kept in world.plain.all() if b"POST" in kept]
    assert b"test" in heard and b"PADD" not in heard, heard


cases(connection_error, "RFC 9113 § 6.1: DATA belongs to a stream, and padding is shorter than its frame.", (PROTOCOL_ERROR,), {
    "data_on_stream_0": data(stream=0),
    "data_with_too_much_padding": head(END_HEADERS, POST) + data(b"\x05test", PADDED),
    "data_with_padding_as_long_as_it_is": head(END_HEADERS, POST) + data(b"\x01", PADDED),
})
cases(connection_error, "RFC 9113 § 6.1, § 4.2: too short for the field that says how much padding there is.", (PROTOCOL_ERROR, FRAME_SIZE_ERROR), {
    "data_without_its_padding_field": head(END_HEADERS, POST) + data(b"", PADDED),
    "a_request_without_its_padding_field": head(WHOLE | PADDED, b""),
    "a_request_without_its_priority": head(WHOLE | PRIORITISED, b"\0\0"),
})

# § 6.2: HEADERS.

cases(served, "RFC 9113 § 6.2: HEADERS, with padding and priority.", 200, {
    "a_request": head(),
    "a_request_with_padding": head(WHOLE | PADDED, b"\x08" + GET + bytes(8)),
    "a_request_with_priority": head(WHOLE | PRIORITISED, depending(0) + GET),
    "a_request_with_both": head(WHOLE | PRIORITISED | PADDED, b"\x03" + depending(0x80000000 | 7) + GET + bytes(3)),
})
cases(connection_error, "RFC 9113 § 6.2: HEADERS belong to a stream, and padding is shorter than its frame.", (PROTOCOL_ERROR,), {
    "a_request_on_stream_0": head(stream=0),
    "a_request_with_too_much_padding": head(WHOLE | PADDED, b"\xff" + GET),
})

# § 6.3, § 6.4: PRIORITY and RST_STREAM.

cases(connection_error, "RFC 9113 § 6.3: PRIORITY belongs to a stream.", (PROTOCOL_ERROR,), {"a_priority_of_stream_0": priority(0)})
cases(stream_error, "RFC 9113 § 6.3: PRIORITY has 5 bytes.", (FRAME_SIZE_ERROR,), {
    "a_priority_that_is_too_short": head(END_HEADERS, POST) + frame(PRIORITY, 0, 1, bytes(4)),
    "a_priority_that_is_too_long": head(END_HEADERS, POST) + frame(PRIORITY, 0, 1, bytes(6)),
})
cases(connection_error, "RFC 9113 § 6.4: RST_STREAM belongs to a stream.", (PROTOCOL_ERROR,), {"a_reset_of_stream_0": reset(0)})
cases(connection_error, "RFC 9113 § 6.4: RST_STREAM has 4 bytes.", (FRAME_SIZE_ERROR,), {
    "a_reset_that_is_too_short": head(END_HEADERS, POST) + frame(RST_STREAM, 0, 1, bytes(3)),
    "a_reset_that_is_too_long": head(END_HEADERS, POST) + frame(RST_STREAM, 0, 1, bytes(5)),
})


@case
def a_reset_ends_a_request_that_is_under_way(world):
    """RFC 9113 § 6.4: no answer comes, and the connection goes on."""
    with Client(world) as client:
        client.send(head(END_HEADERS, POST), data(b"half"), reset(1))
        goes_on(world, client, None)


# § 6.5: SETTINGS.

cases(connection_error, "RFC 9113 § 6.5: SETTINGS belong to no stream.", (PROTOCOL_ERROR,), {
    "settings_of_a_stream": frame(SETTINGS, 0, 1, bytes(6)),
    "an_acknowledgement_of_a_stream": frame(SETTINGS, ACK, 1),
    "an_acknowledgement_of_nothing": frame(SETTINGS, ACK),
})
cases(connection_error, "RFC 9113 § 6.5: SETTINGS have 6 bytes each, an acknowledgement none.", (FRAME_SIZE_ERROR,), {
    "an_acknowledgement_with_a_payload": frame(SETTINGS, ACK, 0, bytes(6)),
    "settings_that_are_too_short": frame(SETTINGS, 0, 0, bytes(3)),
    "settings_that_are_too_long": frame(SETTINGS, 0, 0, bytes(7)),
})
cases(connection_error, "RFC 9113 § 6.5.2: values that are defined.", (PROTOCOL_ERROR,), {
    "push_that_is_neither_on_nor_off": settings((ENABLE_PUSH, 2)),
    "a_frame_size_below_the_least": settings((MAX_FRAME_SIZE, 16383)),
    "a_frame_size_above_the_largest": settings((MAX_FRAME_SIZE, 1 << 24)),
})
cases(connection_error, "RFC 9113 § 6.5.2: FLOW_CONTROL_ERROR for windows that cannot be.", (FLOW_CONTROL_ERROR,), {
    "an_initial_window_above_the_largest": settings((INITIAL_WINDOW_SIZE, 1 << 31)),
    "an_initial_window_above_the_largest_among_others": settings((MAX_FRAME_SIZE, 16384), (INITIAL_WINDOW_SIZE, 0xFFFFFFFF), (ENABLE_PUSH, 0)),
})
cases(served, "RFC 9113 § 6.5.2: what is right, and what is not known.", 200, {
    "an_unknown_setting_is_ignored": settings((0xFF, 1), (0x10, 0xFFFFFFFF)) + head(),
    "settings_in_all_their_bounds": settings((HEADER_TABLE_SIZE, 0), (ENABLE_PUSH, 1), (MAX_CONCURRENT_STREAMS, 0), (INITIAL_WINDOW_SIZE, 0x7FFFFFFF),
                                             (MAX_FRAME_SIZE, 0xFFFFFF), (MAX_HEADER_LIST_SIZE, 0xFFFFFFFF)) + head(),
    "settings_that_name_one_twice": settings((INITIAL_WINDOW_SIZE, 0), (INITIAL_WINDOW_SIZE, 100)) + head(),
})


@case
def settings_are_acknowledged(world):
    """RFC 9113 § 6.5.3: each of them, in their order."""
    with Client(world) as client:
        client.send(settings((ENABLE_PUSH, 0)), settings(), ping(b"position"))
        acknowledged, heard = 0, client.next()
        while heard is not None and heard.kind != PING:
            acknowledged += heard.kind == SETTINGS and heard.flags & ACK
            heard = client.next()
        assert acknowledged >= 2, acknowledged


@case
def the_last_of_two_values_holds(world):
    """RFC 9113 § 6.5.3: values are applied in the order they come in."""
    with Client(world, (INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)) as client:
        client.send(head())
        first = client.until(lambda heard: heard.kind == DATA)
        assert len(first.payload) == 1, first


# § 6.6: PUSH_PROMISE.

cases(connection_error, "RFC 9113 § 6.6, § 8.4: a client cannot push.", (PROTOCOL_ERROR,), {
    "a_promise_of_a_client": head(END_HEADERS, POST) + frame(PUSH_PROMISE, END_HEADERS, 1, struct.pack(">I", 2) + GET),
    "a_promise_on_an_idle_stream": frame(PUSH_PROMISE, END_HEADERS, 1, struct.pack(">I", 2) + GET),
})

# § 6.7: PING.

@case
def a_ping_comes_back(world):
    """RFC 9113 § 6.7: with the same payload, and an answer is not answered."""
    with Client(world) as client:
        client.send(ping(b"not this", ACK), ping(b"but that"))
        heard = client.until(lambda heard: heard.kind == PING)
        assert heard.payload == b"but that" and heard.flags == ACK and heard.stream == 0, heard


cases(connection_error, "RFC 9113 § 6.7: PING belongs to no stream.", (PROTOCOL_ERROR,), {"a_ping_of_a_stream": frame(PING, 0, 1, bytes(8))})
cases(connection_error, "RFC 9113 § 6.7: PING has 8 bytes.", (FRAME_SIZE_ERROR,), {
    "a_ping_that_is_too_short": frame(PING, payload=bytes(6)),
    "a_ping_that_is_too_long": frame(PING, payload=bytes(9)),
    "a_ping_without_a_payload": frame(PING),
})

# § 6.8: GOAWAY.

cases(connection_error, "RFC 9113 § 6.8: GOAWAY belongs to no stream.", (PROTOCOL_ERROR,), {"a_goaway_of_a_stream": goaway(stream=1)})
cases(connection_error, "RFC 9113 § 6.8, § 4.2: GOAWAY has 8 bytes at least.", (FRAME_SIZE_ERROR,), {"a_goaway_that_is_too_short": frame(GOAWAY, payload=bytes(7))})


@case
def what_runs_is_finished_behind_a_goaway(world):
    """RFC 9113 § 6.8: who says that he leaves still gets what he asked for."""
    with Client(world) as client:
        client.send(head(END_HEADERS, POST), goaway(), data(b"x", END_STREAM))
        assert client.result(1) == ("status", 200)


# § 6.9: WINDOW_UPDATE and flow control.

cases(connection_error, "RFC 9113 § 6.9: an update of nothing is a PROTOCOL_ERROR.", (PROTOCOL_ERROR,), {"a_window_update_of_nothing": window(0, 0)})
cases(stream_error, "RFC 9113 § 6.9: an update of nothing is a PROTOCOL_ERROR.", (PROTOCOL_ERROR,),
      {"a_window_update_of_nothing_for_a_stream": head(END_HEADERS, POST) + window(1, 0)})
cases(connection_error, "RFC 9113 § 6.9: WINDOW_UPDATE has 4 bytes.", (FRAME_SIZE_ERROR,), {
    "a_window_update_that_is_too_short": frame(WINDOW_UPDATE, payload=bytes(3)),
    "a_window_update_that_is_too_long": frame(WINDOW_UPDATE, payload=b"\0\0\0\1\0"),
})
cases(connection_error, "RFC 9113 § 6.9.1: a window of more than 2^31-1 is a FLOW_CONTROL_ERROR.", (FLOW_CONTROL_ERROR,),
      {"a_window_that_overflows": window(0, 0x7FFFFFFF) + window(0, 0x7FFFFFFF)})
cases(stream_error, "RFC 9113 § 6.9.1: a window of more than 2^31-1 is a FLOW_CONTROL_ERROR.", (FLOW_CONTROL_ERROR,),
      {"a_window_of_a_stream_that_overflows": head(END_HEADERS, POST) + window(1, 0x7FFFFFFF) + window(1, 0x7FFFFFFF)})
cases(connection_error, "RFC 9113 § 6.9.2: settings must not make a window overflow.", (FLOW_CONTROL_ERROR,),
      {"a_window_that_settings_make_overflow": head(END_HEADERS, POST) + window(1, 0x7FFF0000 - 65535) + settings((INITIAL_WINDOW_SIZE, 0x7FFFFFFF))})


@case
def no_more_is_sent_than_the_window_allows(world):
    """RFC 9113 § 6.9.1: a byte at a time, if that is what there is room for."""
    with Client(world, (INITIAL_WINDOW_SIZE, 1)) as client:
        client.send(head())
        first = client.until(lambda heard: heard.kind == DATA)
        assert len(first.payload) == 1 and not first.flags & END_STREAM, first
        client.send(window(1, 1))
        second = client.until(lambda heard: heard.kind == DATA and heard.payload)
        assert first.payload + second.payload == b"ok", (first, second)


@case
def a_change_of_the_initial_window_changes_open_streams(world):
    """RFC 9113 § 6.9.2."""
    with Client(world, (INITIAL_WINDOW_SIZE, 0)) as client:
        client.send(head())
        assert client.result(1) == ("status", 200)
        client.send(ping())
        assert client.until(lambda heard: heard.kind in (PING, DATA)).kind == PING
        client.send(settings((INITIAL_WINDOW_SIZE, 1)))
        assert len(client.until(lambda heard: heard.kind == DATA).payload) == 1


@case
def a_window_can_be_negative(world):
    """RFC 9113 § 6.9.2: what was sent already counts against the new size."""
    world.odd.script = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
    with Client(world, (INITIAL_WINDOW_SIZE, 3)) as client:
        client.send(client.open(1, path="/odd/x"))
        assert len(client.until(lambda heard: heard.kind == DATA).payload) == 3
        client.send(settings((INITIAL_WINDOW_SIZE, 2)), window(1, 2))
        assert len(client.until(lambda heard: heard.kind == DATA).payload) == 1


@case
def more_data_than_the_window_of_a_stream(world):
    """RFC 9113 § 6.9.1: FLOW_CONTROL_ERROR, of the stream or of all."""
    with Client(world, timeout=5) as client:
        most = client.theirs[INITIAL_WINDOW_SIZE] * 8
        # Who passes it on as fast as it comes sees no window overrun, and answers.
        much = (data(b"x" * 16384) for _ in range(most // 16384 + 8))
        client.send(head(END_HEADERS, POST), *much, data(b"", END_STREAM))
        said = client.result(1)
        assert said in (("reset", FLOW_CONTROL_ERROR), ("goaway", FLOW_CONTROL_ERROR)) or said[0] == "status", said


# § 6.10: CONTINUATION.

cases(served, "RFC 9113 § 6.10: a block may be cut anywhere.", 200, {
    "a_continuation": head(END_STREAM, GET[:2]) + frame(CONTINUATION, END_HEADERS, 1, GET[2:]),
    "some_continuations": head(END_STREAM, GET[:1]) + frame(CONTINUATION, 0, 1, GET[1:4]) + frame(CONTINUATION, END_HEADERS, 1, GET[4:]),
    "an_empty_continuation": head(END_STREAM, GET) + frame(CONTINUATION, END_HEADERS, 1),
    "a_request_whose_block_is_all_in_a_continuation": head(END_STREAM, b"") + frame(CONTINUATION, END_HEADERS, 1, GET),
})
cases(connection_error, "RFC 9113 § 6.10: CONTINUATION follows a block that has not ended.", (PROTOCOL_ERROR,), {
    "a_continuation_on_stream_0": head(END_STREAM) + frame(CONTINUATION, END_HEADERS, 0),
    "a_continuation_behind_a_whole_block": head() + frame(CONTINUATION, END_HEADERS, 1),
    "a_continuation_behind_its_last": head(END_STREAM) + frame(CONTINUATION, END_HEADERS, 1) + frame(CONTINUATION, END_HEADERS, 1),
    "a_continuation_behind_data": head(END_HEADERS, POST) + data() + frame(CONTINUATION, END_HEADERS, 1),
})

# § 7: codes.

@case
def unknown_codes_are_no_error(world):
    """RFC 9113 § 7: they may be read as INTERNAL_ERROR."""
    with Client(world) as client:
        client.send(head(END_HEADERS, POST), reset(1, 0xFF))
        goes_on(world, client, None)
    with Client(world) as client:
        client.send(head(END_HEADERS, POST), goaway(0xFF), data(b"x", END_STREAM))
        assert client.ends() in (0, CLOSED)


# § 8.1: messages.

@case
def requests_of_each_kind_are_answered(world):
    """RFC 9113 § 8.1: GET, HEAD and POST, with a body and trailers."""
    with Client(world) as client:
        client.send(client.open(1), client.open(3, method="HEAD"), client.open(5, method="POST", end=False), data(b"x", END_STREAM, 5))
        client.send(client.open(7, method="POST", end=False), data(b"x", 0, 7), frame(HEADERS, WHOLE, 7, literal(b"x-checksum", b"1")))
        left = {1, 3, 5, 7}
        while left:
            heard = client.next()
            assert heard is not None and heard.kind not in (RST_STREAM, GOAWAY), heard
            if heard.kind == HEADERS:
                assert heard.fields[":status"] == "200", heard
                assert bool(heard.flags & END_STREAM) == (heard.stream == 3), heard
                left.remove(heard.stream)


@case
def names_in_answers_are_in_lower_case(world):
    """RFC 9113 § 8.2, § 8.2.2: whatever the upstream wrote, and nothing of its hop."""
    world.odd.script = (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-UPPER: 1\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\n"
                        b"Keep-Alive: timeout=5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\n\r\nok")
    with Client(world) as client:
        client.send(client.open(1, path="/odd/x"))
        heard = client.until(lambda heard: heard.kind == HEADERS)
        names = list(heard.fields)
        assert names == [name.lower() for name in names] and "x-upper" in names, names
        assert not {"connection", "keep-alive", "proxy-connection", "upgrade", "transfer-encoding", "x-hop"} & set(names), names
        assert names[0] == ":status" and sum(name.startswith(":") for name in names) == 1, names


cases(stream_error, "RFC 9113 § 8.1: trailers end their stream, and hold no pseudo fields.", (PROTOCOL_ERROR,), {
    "trailers_that_do_not_end_the_stream": head(END_HEADERS, POST) + data() + frame(HEADERS, END_HEADERS, 1, literal(b"x", b"y")) + data(b"", END_STREAM),
    "trailers_with_a_pseudo_field": head(END_HEADERS, POST) + data() + frame(HEADERS, WHOLE, 1, b"\x82"),
    "trailers_with_a_literal_pseudo_field": head(END_HEADERS, POST) + data() + frame(HEADERS, WHOLE, 1, literal(b"x", b"y") + literal(b":path", b"/")),
    "trailers_with_an_unknown_pseudo_field": head(END_HEADERS, POST) + data() + frame(HEADERS, WHOLE, 1, literal(b":test", b"/")),
    "trailers_with_a_status": head(END_HEADERS, POST) + data() + frame(HEADERS, WHOLE, 1, b"\x88"),
})

cases(malformed, "RFC 9113 § 8.2.1: names and values that HTTP does not have.", (PROTOCOL_ERROR,), {
    "a_name_in_upper_case": head(block=GET + literal(b"X-Test", b"1")),
    "a_name_with_a_space": head(block=GET + literal(b"x test", b"1")),
    "a_name_with_a_control": head(block=GET + literal(b"x\ttest", b"1")),
    "a_name_with_a_line_end": head(block=GET + literal(b"x\r\ny", b"1")),
    "a_name_with_del": head(block=GET + literal(b"x\x7f", b"1")),
    "a_name_beyond_ascii": head(block=GET + literal(b"x\xe4", b"1")),
    "a_name_with_a_colon": head(block=GET + literal(b"x:y", b"1")),
    "an_empty_name": head(block=GET + literal(b"", b"1")),
    "a_value_with_nul": head(block=GET + literal(b"x", b"a\0b")),
    "a_value_with_cr": head(block=GET + literal(b"x", b"a\rb")),
    "a_value_with_lf": head(block=GET + literal(b"x", b"a\nb: c")),
    "a_value_with_a_request_in_it": head(block=GET + literal(b"x", b"a\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n")),
    "a_value_that_begins_with_a_space": head(block=GET + literal(b"x", b" a")),
    "a_value_that_ends_with_a_tab": head(block=GET + literal(b"x", b"a\t")),
})

cases(malformed, "RFC 9113 § 8.2.2: fields of a connection have no place in HTTP/2.", (PROTOCOL_ERROR,), {
    "connection": head(block=GET + literal(b"connection", b"keep-alive")),
    "connection_with_names": head(block=GET + literal(b"connection", b"x") + literal(b"x", b"1")),
    "keep_alive": head(block=GET + literal(b"keep-alive", b"timeout=5")),
    "proxy_connection": head(block=GET + literal(b"proxy-connection", b"keep-alive")),
    "transfer_encoding": head(END_HEADERS, POST + literal(b"transfer-encoding", b"chunked")) + data(b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n", END_STREAM),
    "upgrade": head(block=GET + literal(b"upgrade", b"websocket")),
    "te_that_is_not_trailers": head(block=GET + literal(b"te", b"trailers, deflate;q=0.5")),
})
cases(served, "RFC 9113 § 8.2.2: TE may say that trailers are welcome.", 200, {"te_that_is_trailers": head(block=GET + literal(b"te", b"trailers"))})


@case
def crumbs_of_cookies_are_joined(world):
    """RFC 9113 § 8.2.3: for HTTP/1.1 they are one field, with `; ` between them."""
    with Client(world) as client:
        client.send(head(block=GET + literal(b"cookie", b"a=b") + literal(b"cookie", b"c=d") + literal(b"cookie", b"e=f")))
        assert client.result(1) == ("status", 200)
    (heard,) = [kept for kept in world.plain.all() if b"cookie" in kept.lower()]
    assert b"cookie: a=b; c=d; e=f\r\n" in heard.lower(), heard


cases(malformed, "RFC 9113 § 8.3: pseudo fields: those of requests, each once, before the others.", (PROTOCOL_ERROR,), {
    "an_unknown_pseudo_field": head(block=GET + literal(b":test", b"ok")),
    "the_pseudo_field_of_answers": head(block=GET + b"\x88"),
    "a_pseudo_field_behind_the_others": head(block=b"\x82\x86\x41\x01a" + literal(b"x", b"y") + b"\x84"),
    "a_pseudo_field_without_a_name": head(block=GET + literal(b":", b"x")),
})
cases(malformed, "RFC 9113 § 8.3.1: what a request has to say, once.", (PROTOCOL_ERROR,), {
    "an_empty_path": head(block=b"\x82\x86\x41\x01a" + literal(b":path", b"")),
    "no_method": head(block=b"\x86\x84\x41\x01a"),
    "no_scheme": head(block=b"\x82\x84\x41\x01a"),
    "no_path": head(block=b"\x82\x86\x41\x01a"),
    "nothing_at_all": head(block=b""),
    "two_methods": head(block=b"\x82\x83\x86\x84\x41\x01a"),
    "two_schemes": head(block=b"\x82\x86\x87\x84\x41\x01a"),
    "two_paths": head(block=b"\x82\x86\x84\x85\x41\x01a"),
    "two_authorities": head(block=GET + b"\x41\x01a"),
    "a_path_that_is_none": head(block=b"\x82\x86\x41\x01a" + literal(b":path", b"x")),
    "a_path_with_a_space": head(block=b"\x82\x86\x41\x01a" + literal(b":path", b"/a b HTTP/1.1")),
    "a_path_with_a_line_end": head(block=b"\x82\x86\x41\x01a" + literal(b":path", b"/ HTTP/1.1\r\nx: y")),
    "a_path_with_nul": head(block=b"\x82\x86\x41\x01a" + literal(b":path", b"/\0")),
    "a_method_that_is_no_token": head(block=b"\x86\x84\x41\x01a" + literal(b":method", b"GE T")),
    "an_empty_method": head(block=b"\x86\x84\x41\x01a" + literal(b":method", b"")),
    "a_method_with_a_line_end": head(block=b"\x86\x84\x41\x01a" + literal(b":method", b"GET / HTTP/1.1\r\nx: y\r\n")),
    "a_scheme_that_is_none": head(block=b"\x82\x84\x41\x01a" + literal(b":scheme", b"ht tp")),
    "an_authority_with_a_line_end": head(block=b"\x82\x86\x84" + literal(b":authority", b"a\r\nx: y")),
    "an_authority_with_a_path": head(block=b"\x82\x86\x84" + literal(b":authority", b"a/b")),
    "an_authority_with_a_user": head(block=b"\x82\x86\x84" + literal(b":authority", b"user:secret@a")),
    "a_host_that_is_another": head(block=GET + literal(b"host", b"b")),
    "two_hosts": head(block=b"\x82\x86\x84" + literal(b"host", b"a") + literal(b"host", b"b")),
})
cases(served, "RFC 9113 § 8.3.1: Host may stand for :authority, or beside it.", 200, {
    "a_host_for_the_authority": head(block=b"\x82\x86\x84" + literal(b"host", b"a")),
    "a_host_that_is_the_authority": head(block=GET + literal(b"host", b"a")),
    "a_scheme_of_another_kind": head(block=b"\x82\x87\x84\x41\x01a"),
    "options_of_the_server": head(block=b"\x86\x41\x01a" + literal(b":method", b"OPTIONS") + literal(b":path", b"*")),
})

cases(malformed, "RFC 9113 § 8.1.1: content-length is the length of the body.", (PROTOCOL_ERROR,), {
    "a_length_without_a_body": head(WHOLE, POST + literal(b"content-length", b"1")),
    "a_length_that_is_no_number": head(END_HEADERS, POST + literal(b"content-length", b"one")) + data(b"x", END_STREAM),
    "a_length_with_a_sign": head(END_HEADERS, POST + literal(b"content-length", b"+1")) + data(b"x", END_STREAM),
    "two_lengths": head(END_HEADERS, POST + literal(b"content-length", b"1") + literal(b"content-length", b"2")) + data(b"x", END_STREAM),
    "a_list_of_lengths": head(END_HEADERS, POST + literal(b"content-length", b"1, 1")) + data(b"x", END_STREAM),
    "a_length_beyond_numbers": head(END_HEADERS, POST + literal(b"content-length", b"9" * 30)) + data(b"x", END_STREAM),
})


@case
def bodies_of_another_length_are_never_complete(world):
    """RFC 9113 § 8.1.1: more or less than announced: the stream is reset, and the upstream hears no whole request."""
    for length, parts in ((1, (b"test",)), (1, (b"te", b"st")), (10, (b"test",)), (10, (b"te", b"st", b"")), (0, (b"x",))):
        world.plain.forget()
        with Client(world) as client:
            client.send(head(END_HEADERS, POST + literal(b"content-length", b"%d" % length)))
            client.send(*(data(part, END_STREAM if at == len(parts) - 1 else 0) for at, part in enumerate(parts)))
            said = client.result(1)
            assert said in (("reset", PROTOCOL_ERROR), ("goaway", PROTOCOL_ERROR), ("status", 400)), (length, parts, said)
        assert world.plain.requests == 0 or length == 0, world.plain.all()


@case
def trailers_before_the_whole_body_are_an_error(world):
    """RFC 9113 § 8.1.1: content-length counts to the trailers."""
    with Client(world) as client:
        client.send(head(END_HEADERS, POST + literal(b"content-length", b"4")), data(b"x"), frame(HEADERS, WHOLE, 1, literal(b"x", b"y")))
        stream_error(world, client, (PROTOCOL_ERROR,))
    assert world.plain.requests == 0


# § 8.5: CONNECT.

def not_a_tunnel(world, client, _):
    """We make none: it is refused or reset, and nobody behind us hears of it."""
    said = client.result(1)
    assert said[0] in ("reset", "goaway", "closed") or said[0] == "status" and said[1] >= 400, said
    assert world.plain.requests == 0


CONNECT = literal(b":method", b"CONNECT")
cases(not_a_tunnel, "RFC 9113 § 8.5: CONNECT.", None, {
    "connect": head(END_HEADERS, CONNECT + literal(b":authority", b"a:80")),
    "connect_with_a_scheme": head(END_HEADERS, CONNECT + b"\x86" + literal(b":authority", b"a:80")),
    "connect_with_a_path": head(END_HEADERS, CONNECT + b"\x84" + literal(b":authority", b"a:80")),
    "connect_without_an_authority": head(END_HEADERS, CONNECT),
    "connect_with_a_length": head(END_HEADERS, CONNECT + literal(b":authority", b"a:80") + literal(b"content-length", b"5")),
    "connect_to_a_protocol_that_was_not_offered": head(END_HEADERS, CONNECT + b"\x86\x84\x41\x01a" + literal(b":protocol", b"websocket")),
})

# RFC 7541: HPACK.

cases(served, "RFC 7541 § 6: every representation is understood.", 200, {
    "an_indexed_field": head(block=GET + b"\x90"),
    "an_indexed_name_that_is_kept": head(block=GET + b"\x7a\x04test"),
    "an_indexed_name_that_is_not_kept": head(block=GET + b"\x0f\x2b\x04test"),
    "an_indexed_name_that_is_never_kept": head(block=GET + b"\x1f\x2b\x04test"),
    "a_new_name_that_is_kept": head(block=GET + literal(b"user-agent", b"test", b"\x40")),
    "a_new_name_that_is_not_kept": head(block=GET + literal(b"user-agent", b"test")),
    "a_new_name_that_is_never_kept": head(block=GET + literal(b"user-agent", b"test", b"\x10")),
    "an_index_of_our_own": head(block=GET + literal(b"user-agent", b"test", b"\x40") + b"\xbe"),
    "a_smaller_table": head(block=b"\x3e" + GET),
    "a_table_of_nothing_and_again_of_the_largest_size": head(block=b"\x20\x3f\xe1\x1f" + GET),
    "a_value_in_huffmans_code": head(block=GET + b"\x0f\x2b\x83\x49\x50\x9f"),
    "a_name_in_huffmans_code": head(block=GET + b"\0\x83\x49\x50\x9f\x83\x49\x50\x9f"),
    "an_empty_value": head(block=GET + literal(b"x", b"")),
    "an_integer_with_needless_zeros": head(block=GET + b"\0\x01x\x7f\x81\x80\x80\x00" + b"v" * 128),
})


@case
def a_table_is_kept_from_request_to_request(world):
    """RFC 7541 § 2.2: also by streams that were refused or malformed."""
    with Client(world) as client:
        client.send(head(block=GET + literal(b"x-first", b"1", b"\x40")))
        assert client.result(1) == ("status", 200)
        client.send(head(block=b"\x82\x86\x41\x01a" + literal(b"x-second", b"2", b"\x40"), stream=3))
        assert client.result(3)[0] == "reset"
        client.send(head(block=GET + b"\xbf" + b"\xc1", stream=5))
        assert client.result(5) == ("status", 200)
    assert any(b"x-second: 2" in kept and b"x-first: 1" in kept for kept in world.plain.all()), world.plain.all()


BROKEN = (COMPRESSION_ERROR, PROTOCOL_ERROR)
cases(connection_error, "RFC 7541 § 2.3.3: an index beyond both tables.", BROKEN, {
    "an_index_that_is_not_there": head(block=GET + b"\xff\x46"),
    "an_index_of_a_name_that_is_not_there": head(block=GET + b"\x7f\x46\x04test"),
    "an_index_of_a_field_that_was_put_out": head(block=GET + literal(b"x", b"y", b"\x40")) + head(block=b"\x20" + GET + b"\xbe", stream=3),
})
cases(connection_error, "RFC 7541 § 4.2: the size of the table changes where a block begins.", BROKEN, {
    "a_table_size_at_the_end": head(block=GET + b"\x3f\xe1\x1f"),
    "a_table_size_in_the_middle": head(block=b"\x82\x86\x20\x84\x41\x01a"),
})
cases(connection_error, "RFC 7541 § 5.1: an integer beyond all bounds.", BROKEN, {
    "an_integer_that_overflows": head(block=GET + b"\0\x01x\x7f" + b"\xff" * 9 + b"\x7f"),
    "an_integer_without_end": head(block=GET + b"\0\x01x\x7f" + b"\x80" * 64),
})
cases(connection_error, "RFC 7541 § 5.2: Huffman's code ends in less than a byte of ones, and has no EOS.", BROKEN, {
    "padding_of_more_than_7_bits": head(block=GET + b"\0\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"),
    "padding_of_zeros": head(block=GET + b"\0\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90"),
    "an_eos": head(block=GET + b"\0\x85\xf2\xb2\x4a\x84\xff\x87\x49\x50\x9f\xff\xff\xff\xff"),
})
cases(connection_error, "RFC 7541 § 6.1: there is no index 0.", BROKEN, {"index_0": head(block=GET + b"\x80")})
cases(connection_error, "RFC 7541 § 6.3: a table larger than was announced.", BROKEN, {"a_table_that_is_too_large": head(block=b"\x3f\xe1\xff\x03" + GET)})
