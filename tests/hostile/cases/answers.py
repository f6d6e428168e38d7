"""Backends that are wrong or hostile: what can be read in two ways never reaches a client as if it were good. RFC 9112, RFC 9110."""

import re
import ssl

OK = b"HTTP/1.1 200 OK\r\n"

# A 502 of ours, whole, and nothing of the backend's own words.
BAD = {
    # RFC 9112 § 4: the status line.
    "no_http": b"hello\r\n\r\n",
    "no_status": b"HTTP/1.1\r\n\r\n",
    "a_status_of_two_digits": b"HTTP/1.1 20 OK\r\ncontent-length: 2\r\n\r\nok",
    "a_status_of_four_digits": b"HTTP/1.1 2000 OK\r\ncontent-length: 2\r\n\r\nok",
    "a_status_of_letters": b"HTTP/1.1 abc OK\r\ncontent-length: 2\r\n\r\nok",
    "a_status_beyond_599": b"HTTP/1.1 600 No\r\ncontent-length: 2\r\n\r\nok",
    "a_status_of_999": b"HTTP/1.1 999 No\r\ncontent-length: 2\r\n\r\nok",
    "a_status_below_100": b"HTTP/1.1 099 No\r\ncontent-length: 2\r\n\r\nok",
    "another_version": b"HTTP/3.7 200 OK\r\ncontent-length: 2\r\n\r\nok",
    # § 5: fields.
    "a_name_that_is_no_token": OK + b"x(y): 1\r\ncontent-length: 2\r\n\r\nok",
    "no_colon": OK + b"nothing\r\ncontent-length: 2\r\n\r\nok",
    "nul_in_a_value": OK + b"x: a\0b\r\ncontent-length: 2\r\n\r\nok",
    "bare_cr_in_a_value": OK + b"x: a\rb\r\ncontent-length: 2\r\n\r\nok",
    # § 6: framing.
    "two_lengths": OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nok!",
    "a_list_of_lengths": OK + b"content-length: 2, 3\r\n\r\nok!",
    "a_negative_length": OK + b"content-length: -2\r\n\r\nok",
    "a_length_with_a_plus": OK + b"content-length: +2\r\n\r\nok",
    "a_length_in_hex": OK + b"content-length: 0x2\r\n\r\nok",
    "a_length_beyond_64_bits": OK + b"content-length: 18446744073709551618\r\n\r\nok",
    "chunked_is_not_last": OK + b"transfer-encoding: chunked, gzip\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "an_unknown_coding": OK + b"transfer-encoding: cow\r\n\r\nok",
    "gzip_as_a_transfer_coding": OK + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    # RFC 9110 § 15.2.2: a protocol nobody asked for.
    "a_protocol_nobody_asked_for": b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    "nothing_at_all": b"",
    "half_a_head": OK + b"content-le",
    "an_endless_head": OK + b"x: " + b"a" * 2_000_000,
    "too_many_fields": OK + b"".join(b"x-%d: y\r\n" % n for n in range(20_000)) + b"\r\n",
    "early_hints_without_end": b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 50_000,
}

# The head may be on its way by then: the answer is not whole, and whoever reads it sees that it is not.
CUT = {
    "less_than_its_length": OK + b"content-length: 9\r\n\r\nabc",
    "chunks_that_end_early": OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "a_chunk_without_a_number": OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n\r\n",
    "a_chunk_larger_than_it_says": OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    "a_number_that_wraps": OK + b"transfer-encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n",
    "a_bare_lf_after_a_number": OK + b"transfer-encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
    "an_endless_extension": OK + b"transfer-encoding: chunked\r\n\r\n3;" + b"a" * 200_000 + b"\r\nabc\r\n0\r\n\r\n",
}

# Good answers whose framing a careless gateway gets wrong: the status, and the body that the client reads.
GOOD = {
    "the_end_of_the_connection": (OK + b"\r\nuntil the end", 200, b"until the end"),
    "http_1_0": (b"HTTP/1.0 200 OK\r\n\r\nold", 200, b"old"),
    "equal_lengths_twice": (OK + b"content-length: 2\r\ncontent-length: 2\r\n\r\nok", (200, 502), None),
    "a_reset_content_with_a_body": (b"HTTP/1.1 205 Reset Content\r\ncontent-length: 5\r\n\r\nhello", 205, b""),
    "no_content_with_a_length": (b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", 204, b""),
    "no_content_with_a_body": (b"HTTP/1.1 204 No Content\r\n\r\nhello", 204, b""),
    "not_modified_with_a_length": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", 304, b""),
    "all_kinds_of_1xx_before": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 199 Odd\r\nx: y\r\n\r\n" + OK + b"content-length: 2\r\n\r\nok",
        200,
        b"ok",
    ),
    "hints_before": (b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK + b"content-length: 2\r\n\r\nok", 200, b"ok"),
    "continue_before": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 2\r\n\r\nok", 200, b"ok"),
    "a_second_answer_behind": (OK + b"content-length: 2\r\n\r\nok" + OK + b"content-length: 4\r\n\r\nevil", 200, b"ok"),
    "length_beside_chunked": (OK + b"content-length: 99\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", (200, 502), b"ok"),
    "an_extension": (OK + b"transfer-encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\n\r\n", 200, b"ok"),
    "a_reason_that_is_empty": (b"HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\nok", 200, b"ok"),
    "a_status_nobody_registered": (b"HTTP/1.1 299 Odd\r\ncontent-length: 2\r\n\r\nok", 299, b"ok"),
}

ASK = b"GET /odd/x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"


def read(said):
    """Status, body and whether it is whole, by its framing; asserts that nothing follows."""
    head, _, rest = said.partition(b"\r\n\r\n")
    status = int(re.match(rb"HTTP/1\.1 (\d{3})", head)[1])
    if found := re.search(rb"(?i)\r\ncontent-length: (\d+)", head):
        length = int(found[1])
        assert len(rest) <= length, f"more than the length says: {said[-200:]!r}"
        return status, rest, len(rest) == length or status == 304
    if re.search(rb"(?i)\r\ntransfer-encoding: chunked", head):
        body = b""
        while True:
            size, found, rest = rest.partition(b"\r\n")
            if not found or not re.fullmatch(rb"[0-9a-fA-F]+", size):
                return status, body, False
            if int(size, 16) == 0:
                return status, body, rest.endswith(b"\r\n")
            body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return status, rest, True


def bad(name, script):
    def case(world):
        world.odd.script = script
        before = world.memory()
        said = world.raw(ASK, timeout=5)
        status, body, whole = read(said)
        assert status == 502 and whole and b"upstream" in body, f"{script[:80]!r} became {said[:200]!r}"
        assert world.memory() - before < 16, f"{world.memory() - before:.0f} MB more"

    case.__name__ = f"bad_{name}"
    return case


def cut(name, script):
    def case(world):
        world.odd.script = script
        said = world.raw(ASK, timeout=5)
        status, body, whole = read(said)
        assert status == 502 or not whole, f"{script[:80]!r} became {said[:200]!r}"

    case.__name__ = f"cut_{name}"
    return case


def good(name, script, status, body):
    def case(world):
        world.odd.script = script
        said = world.raw(ASK, timeout=5)
        got = read(said)
        wanted = status if isinstance(status, tuple) else (status,)
        assert got[0] in wanted and got[2], f"{script[:80]!r} became {said[:300]!r}"
        assert body is None or got[0] == 502 or got[1] == body, f"{script[:80]!r} became {said[:300]!r}"

    case.__name__ = f"good_{name}"
    return case


def an_answer_to_head_has_no_body(world):
    """RFC 9110 § 9.3.2"""
    world.odd.script = OK + b"content-length: 5\r\n\r\nhello"
    said = world.raw(ASK.replace(b"GET", b"HEAD"), timeout=5)
    head, _, rest = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ") and rest == b"", said


def what_comes_behind_an_answer_is_no_answer_to_the_next_request(world):
    """RFC 9112 § 11.1: response splitting. The connection is used up."""
    world.odd.script = OK + b"content-length: 2\r\n\r\nok" + OK + b"content-length: 4\r\n\r\nevil"
    for _ in range(5):
        assert b"evil" not in world.raw(ASK, timeout=5)


def a_broken_answer_never_looks_whole_to_who_reads_to_the_end(world):
    """RFC 9112 § 8: to HTTP/1.0 the connection's end is the body's, so this end is a reset; in TLS, one without `close_notify`."""
    world.odd.script = OK + b"transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"
    ask = b"GET /odd/x HTTP/1.0\r\nhost: world.test\r\n\r\n"
    context = ssl.create_default_context(cadata=world.ca.decode())
    secure = context.wrap_socket(world.connect(to=world.secure), server_hostname="world.test", suppress_ragged_eofs=False)
    for line in (world.connect(), secure):
        with line:
            line.sendall(ask)
            heard = b""
            try:
                while piece := line.recv(65536):
                    heard += piece
            except (ConnectionResetError, ssl.SSLError):
                continue
            raise AssertionError(f"it looks whole: {heard!r}")


def fields_of_one_hop_go_no_further(world):
    """RFC 9110 § 7.6.1"""
    world.odd.script = OK + b"connection: x-mine\r\nx-mine: 1\r\nkeep-alive: timeout=5\r\nproxy-connection: close\r\nproxy-authenticate: x\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nok"
    said = world.raw(ASK, timeout=5).lower()
    for name in [b"x-mine", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"upgrade"]:
        assert b"\r\n" + name not in said, said


def interim(said):
    """The informational answers at the beginning, and what comes behind them."""
    heads = []
    while re.match(rb"HTTP/1\.1 1\d\d ", said):
        head, _, said = said.partition(b"\r\n\r\n")
        heads.append(head)
    return heads, said


def hints_go_on_where_they_are_asked_for(world):
    """RFC 9110 § 15.2; RFC 8297 § 2: hints of an answer, and nothing that only the answer may say."""
    hint = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nset-cookie: a=b\r\ncontent-length: 7\r\nconnection: close\r\n\r\n"
    world.odd.script = b"HTTP/1.1 100 Continue\r\n\r\n" + hint * 2 + OK + b"content-length: 2\r\n\r\nok"
    heads, said = interim(world.raw(ASK.replace(b"/odd/", b"/hints/"), timeout=5))
    assert heads == [b"HTTP/1.1 103 Early Hints\r\nlink: </a>"] * 2, heads
    assert read(said) == (200, b"ok", True), said
    for ask in (ASK, b"GET /hints/x HTTP/1.0\r\n\r\n"):
        heads, said = interim(world.raw(ask, timeout=5))
        assert not heads and b" 200 " in said[:16], said


def hints_without_end_end(world):
    """Not even where they go on, nor when they are long and their client reads nothing."""
    before = world.memory()
    for link in (b"</a>", b"</" + b"a" * 60_000 + b">"):
        world.odd.script = (b"HTTP/1.1 103 Early Hints\r\nlink: " + link + b"\r\n\r\n") * 5_000
        heads, said = interim(world.raw(ASK.replace(b"/odd/", b"/hints/"), timeout=10))
        assert 0 < len(heads) <= 64 and read(said)[0] == 502, (len(heads), said[:200])
    lines = [world.connect() for _ in range(20)]
    for line in lines:
        line.sendall(ASK.replace(b"/odd/", b"/hints/"))
    world.is_well()
    for line in lines:
        line.close()
    assert world.memory() - before < 64, f"{world.memory() - before:.0f} MB more"


CASES = [bad(*one) for one in BAD.items()] + [cut(*one) for one in CUT.items()] + [good(name, *what) for name, what in GOOD.items()]
CASES += [hints_go_on_where_they_are_asked_for, hints_without_end_end]
CASES += [a_broken_answer_never_looks_whole_to_who_reads_to_the_end, an_answer_to_head_has_no_body, what_comes_behind_an_answer_is_no_answer_to_the_next_request, fields_of_one_hop_go_no_further]
