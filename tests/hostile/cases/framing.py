"""HTTP/1.1 that can be read in two ways is refused, or made canonical: it never goes on as it came. RFC 9112, RFC 9110."""

import re

HEAD = b"POST /x HTTP/1.1\r\nhost: a\r\n"
SECOND = b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"

# Refused with this status; the backend hears nothing of it.
REFUSED = {
    # RFC 9112 § 2.2: what ends a line, and what comes before the first one.
    "space_before_the_first_field": (b"GET / HTTP/1.1\r\n host: a\r\nhost: a\r\n\r\n", 400),
    "bare_cr_in_a_value": (b"GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n", 400),
    "bare_cr_as_a_line_end": (b"GET / HTTP/1.1\rhost: a\r\r", 400),
    "nul_in_a_value": (b"GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n", 400),
    "nul_in_a_name": (b"GET / HTTP/1.1\r\nhost: a\r\nx\0: b\r\n\r\n", 400),
    # § 3: the request line.
    "two_spaces_after_the_method": (b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "two_spaces_after_the_target": (b"GET /  HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "a_tab_for_a_space": (b"GET\t/ HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "a_target_with_a_space": (b"GET /a b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    # Dots that some servers see only once they have decoded a slash or cut a parameter.
    "dots_before_an_encoded_slash": (b"GET /a/..%2fb HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "encoded_dots_before_an_encoded_slash": (b"GET /a/%2e%2e%2Fb HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "dots_behind_an_encoded_slash": (b"GET /a%2f../b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "dots_with_a_parameter": (b"GET /a/..;/b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "a_dot_with_a_parameter": (b"GET /.;x=y/b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "no_version": (b"GET /\r\nhost: a\r\n\r\n", 400),
    # RFC 9110 § 15.6.6: it is read, and not spoken.
    "version_2_0": (b"GET / HTTP/2.0\r\nhost: a\r\n\r\n", 505),
    "version_0_9": (b"GET / HTTP/0.9\r\n\r\n", 505),
    "version_with_two_digits": (b"GET / HTTP/2.00\r\nhost: a\r\n\r\n", 400),
    "version_in_lower_case": (b"GET / http/1.1\r\nhost: a\r\n\r\n", 400),
    "version_with_a_third_number": (b"GET / HTTP/1.1.1\r\nhost: a\r\n\r\n", 400),
    "empty_method": (b" / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "a_method_that_is_no_token": (b"GE{T / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    # § 5: fields.
    "space_before_the_colon": (b"GET / HTTP/1.1\r\nhost: a\r\nx : b\r\n\r\n", 400),
    "tab_before_the_colon": (b"GET / HTTP/1.1\r\nhost: a\r\nx\t: b\r\n\r\n", 400),
    "no_colon": (b"GET / HTTP/1.1\r\nhost: a\r\nnothing\r\n\r\n", 400),
    "no_name": (b"GET / HTTP/1.1\r\nhost: a\r\n: b\r\n\r\n", 400),
    "a_name_that_is_no_token": (b"GET / HTTP/1.1\r\nhost: a\r\nx(y): b\r\n\r\n", 400),
    "a_folded_value": (b"GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n", 400),
    "a_value_folded_by_a_tab": (b"GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n\tb\r\n\r\n", 400),
    # § 6.1: transfer codings.
    "length_and_chunked": (HEAD + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND, 400),
    "chunked_and_length": (HEAD + b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n" + SECOND, 400),
    "chunked_is_not_last": (HEAD + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    "gzip_before_chunked": (HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "identity": (HEAD + b"transfer-encoding: identity\r\n\r\n", 400),
    "chunked_twice": (HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked_twice_in_a_line": (HEAD + b"transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked_in_quotes": (HEAD + b'transfer-encoding: "chunked"\r\n\r\n0\r\n\r\n', 400),
    "chunked_with_a_parameter": (HEAD + b"transfer-encoding: chunked;x=y\r\n\r\n0\r\n\r\n", 400),
    "chunked_with_a_vertical_tab": (HEAD + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "chunked_after_a_bare_lf": (HEAD + b"transfer-encoding:\n chunked\r\n\r\n0\r\n\r\n", 400),
    "an_unknown_coding": (HEAD + b"transfer-encoding: cow\r\n\r\n0\r\n\r\n", 400),
    "an_empty_coding": (HEAD + b"transfer-encoding:\r\n\r\n0\r\n\r\n", 400),
    "chunked_by_http_1_0": (b"POST /x HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "space_before_the_colon_of_a_coding": (HEAD + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    # § 6.2: lengths.
    "two_lengths": (HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\nabc", 400),
    "a_list_of_lengths": (HEAD + b"content-length: 3, 4\r\n\r\nabc", 400),
    "a_list_of_equal_lengths": (HEAD + b"content-length: 3, 3\r\n\r\nabc", 400),
    "a_negative_length": (HEAD + b"content-length: -3\r\n\r\nabc", 400),
    "a_length_with_a_plus": (HEAD + b"content-length: +3\r\n\r\nabc", 400),
    "a_length_in_hex": (HEAD + b"content-length: 0x3\r\n\r\nabc", 400),
    "a_length_with_a_fraction": (HEAD + b"content-length: 3.0\r\n\r\nabc", 400),
    "a_length_with_an_underscore": (HEAD + b"content-length: 1_0\r\n\r\nabcabcabca", 400),
    "a_length_of_nothing": (HEAD + b"content-length:\r\n\r\n", 400),
    "a_length_beyond_64_bits": (HEAD + b"content-length: 18446744073709551619\r\n\r\nabc", 400),
    "a_length_of_other_digits": (HEAD + "content-length: ٣\r\n\r\nabc".encode(), 400),
}

# Refused as well, but nobody can doubt where these end.
FOREIGN = {
    # § 3.2: the target and its host.
    "no_host": (b"GET / HTTP/1.1\r\nx: a\r\n\r\n", 400),
    "two_hosts": (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
    "a_host_list": (b"GET / HTTP/1.1\r\nhost: a, b\r\n\r\n", 400),
    "a_host_with_user": (b"GET / HTTP/1.1\r\nhost: u@a\r\n\r\n", 400),
    "a_host_with_a_path": (b"GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", 400),
    "a_host_with_a_bad_port": (b"GET / HTTP/1.1\r\nhost: a:99999\r\n\r\n", 400),
    "an_absolute_target_against_host": (b"GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\n", 400),
    "an_absolute_target_with_user": (b"GET http://u@a/ HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "another_scheme": (b"GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "authority_form_without_connect": (b"GET a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", 400),
    # RFC 9110 § 9.3.6, 9.3.8: what no gateway does for a stranger.
    "trace": (b"TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", 405),
    "connect": (b"CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", 405),
}

# Chunked bodies that are broken: nothing after them is a request, and the backend never sees a complete one. § 7.1
CHUNKS = {
    "no_number": b"x\r\nabc\r\n0\r\n\r\n",
    "a_sign": b"+3\r\nabc\r\n0\r\n\r\n",
    "a_prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a_number_too_large": b"ffffffffffffffff3\r\nabc\r\n0\r\n\r\n",
    "a_number_that_wraps": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "an_underscore": b"0_3\r\nabc\r\n0\r\n\r\n",
    "nothing_for_a_number": b"\r\nabc\r\n0\r\n\r\n",
    "space_before_the_number": b" 3\r\nabc\r\n0\r\n\r\n",
    "a_bare_lf_after_the_number": b"3\nabc\r\n0\r\n\r\n",
    "a_bare_cr_after_the_number": b"3\rabc\r\n0\r\n\r\n",
    "more_than_the_number": b"3\r\nabcd\r\n0\r\n\r\n",
    "less_than_the_number": b"3\r\nab\r\n0\r\n\r\n",
    "no_line_end_after_the_data": b"3\r\nabc0\r\n\r\n",
    "a_bare_lf_after_the_data": b"3\r\nabc\n0\r\n\r\n",
    "a_bare_cr_after_the_data": b"3\r\nabc\r0\r\n\r\n",
    "a_bare_lf_in_an_extension": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "a_bare_cr_in_an_extension": b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "an_endless_extension": b"3;" + b"a" * 100_000 + b"\r\nabc\r\n0\r\n\r\n",
    "a_bare_lf_at_the_end": b"3\r\nabc\r\n0\n\r\n",
    "a_negative_number": b"-1\r\nabc\r\n0\r\n\r\n",
    "a_trailer_without_a_colon": b"3\r\nabc\r\n0\r\nnothing\r\n\r\n",
    "a_trailer_that_is_folded": b"3\r\nabc\r\n0\r\nx: a\r\n b\r\n\r\n",
    "a_trailer_with_space_before_the_colon": b"3\r\nabc\r\n0\r\nx : a\r\n\r\n",
    "too_many_trailers": b"3\r\nabc\r\n0\r\n" + b"".join(b"x%d: y\r\n" % n for n in range(3_000)) + b"\r\n",
}

# Served, and what the backend is sent is this and nothing else: the path, and the length of the body.
MADE_CANONICAL = {
    "empty_lines_before_a_request": (b"\r\n\r\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /a HTTP/1.1", b""),
    "dots": (b"GET /a/./b/../c HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /a/c HTTP/1.1", b""),
    "encoded_dots": (b"GET /a/%2e/b/%2E%2e/c HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /a/c HTTP/1.1", b""),
    "dots_beyond_the_root": (b"GET /../../etc HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /etc HTTP/1.1", b""),
    "repeated_slashes": (b"GET //a///b HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /a/b HTTP/1.1", b""),
    "needless_escapes": (b"GET /%61%7Eb HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /a~b HTTP/1.1", b""),
    "escapes_in_lower_case": (b"GET /%c3%a9 HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /%C3%A9 HTTP/1.1", b""),
    "an_encoded_slash_stays_one": (b"GET /a%2fb HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /a%2Fb HTTP/1.1", b""),
    "a_parameter_stays": (b"GET /a;b=c/..d HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /a;b=c/..d HTTP/1.1", b""),
    "a_doubly_encoded_dot_stays_one": (b"GET /a/%252e%252e/b HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /a/%252e%252e/b HTTP/1.1", b""),
    "a_fragment": (b"GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /a HTTP/1.1", b""),
    "an_absolute_target": (b"GET http://a/b?c=d HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /b?c=d HTTP/1.1", b""),
    "an_absolute_target_without_a_path": (b"GET http://a HTTP/1.1\r\nhost: a\r\n\r\n", b"GET / HTTP/1.1", b""),
    # RFC 9112 § 3.2.4: whoever asks a server for its options by a target without a path asks for those of all of it.
    "options_of_an_absolute_target_without_a_path": (b"OPTIONS http://a HTTP/1.1\r\nhost: a\r\n\r\n", b"OPTIONS * HTTP/1.1", b""),
    "options_of_an_absolute_target_with_a_path": (b"OPTIONS http://a/ HTTP/1.1\r\nhost: a\r\n\r\n", b"OPTIONS / HTTP/1.1", b""),
    "options_of_an_absolute_target_with_a_query": (b"OPTIONS http://a?b HTTP/1.1\r\nhost: a\r\n\r\n", b"OPTIONS /?b HTTP/1.1", b""),
    "options_of_the_server": (b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", b"OPTIONS * HTTP/1.1", b""),
    "an_extension_of_a_chunk": (HEAD + b"transfer-encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n", b"POST /x HTTP/1.1", b"abc"),
    "an_extension_in_quotes": (HEAD + b'transfer-encoding: chunked\r\n\r\n3;a="b;c"\r\nabc\r\n0\r\n\r\n', b"POST /x HTTP/1.1", b"abc"),
    "a_nul_in_an_extension": (HEAD + b"transfer-encoding: chunked\r\n\r\n3;a\0b\r\nabc\r\n0\r\n\r\n", b"POST /x HTTP/1.1", b"abc"),
    "zeros_before_a_number": (HEAD + b"transfer-encoding: chunked\r\n\r\n0003\r\nabc\r\n000\r\n\r\n", b"POST /x HTTP/1.1", b"abc"),
    "chunked_in_capitals": (HEAD + b"Transfer-Encoding: ChUnKeD\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"POST /x HTTP/1.1", b"abc"),
    # RFC 9110 § 2.5: a recipient reads a higher minor version as the highest that it knows, and says its own.
    "version_1_2": (b"GET /a HTTP/1.2\r\nhost: a\r\n\r\n", b"GET /a HTTP/1.1", b""),
    "space_around_a_value": (HEAD + b"content-length: \t 3 \t \r\n\r\nabc", b"POST /x HTTP/1.1", b"abc"),
}


def statuses(said):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]


def requests(backend):
    """Heads and bodies, as they went out; a chunked body put together."""
    found = []
    for heard in backend.all():
        while heard:
            head, _, heard = heard.partition(b"\r\n\r\n")
            lower = head.lower()
            body = b""
            if b"transfer-encoding: chunked" in lower:
                while True:
                    size, _, heard = heard.partition(b"\r\n")
                    if not size or not int(size, 16):
                        _, _, heard = heard.partition(b"\r\n")
                        break
                    body, heard = body + heard[: int(size, 16)], heard[int(size, 16) + 2 :]
            elif length := re.search(rb"content-length: (\d+)", lower):
                body, heard = heard[: int(length[1])], heard[int(length[1]) :]
            found.append((head, body))
    return found


def refused(name, data, status):
    def case(world):
        said = world.raw(data, timeout=3)
        assert statuses(said) == [status], f"{data[:200]!r} was answered {said[:200]!r}"
        assert not requests(world.plain), f"{data!r} went on as {world.plain.all()}"

    case.__name__ = f"refused_{name}"
    return case


def broken(name, chunks):
    def case(world):
        """RFC 9112 § 7.1"""
        said = world.raw(HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunks + SECOND, timeout=1)
        assert 200 not in statuses(said) and len(statuses(said)) <= 1, f"{chunks[:80]!r} was answered {said[:200]!r}"
        for heard in world.plain.all():
            assert b"smuggled" not in heard and not heard.endswith(b"0\r\n\r\n"), f"{chunks[:80]!r} went on as {heard!r}"

    case.__name__ = f"broken_chunks_{name}"
    return case


def canonical(name, data, line, body):
    def case(world):
        said = world.raw(data.replace(b"host: a\r\n", b"host: a\r\nconnection: close\r\n"), timeout=3)
        assert statuses(said) == [200], f"{data!r} was answered {said[:200]!r}"
        (head, sent), = requests(world.plain)
        assert head.split(b"\r\n")[0] == line and sent == body, f"{data!r} went on as {head!r}, {sent!r}"
        assert b";" not in sent and head.lower().count(b"content-length") + head.lower().count(b"transfer-encoding") <= 1

    case.__name__ = f"made_canonical_{name}"
    return case


def bare_line_feeds_end_lines_or_are_refused_and_never_go_on(world):
    """RFC 9112 § 2.2: a recipient may take a single LF for a line end."""
    said = world.raw(b"GET /a HTTP/1.1\nhost: a\nconnection: close\n\n")
    assert statuses(said) in ([200], [400]), said
    for head, _ in requests(world.plain):
        assert b"\n" not in head.replace(b"\r\n", b""), head


def a_body_that_ends_early_is_never_complete(world):
    """RFC 9112 § 8"""
    for data in [HEAD + b"content-length: 9\r\n\r\nabc", HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"]:
        said = world.raw(data, timeout=1)
        assert 200 not in statuses(said), said
    for heard in world.plain.all():
        assert not heard.endswith(b"0\r\n\r\n"), heard


def pipelined_requests_are_answered_in_order(world):
    """RFC 9112 § 9.3.2"""
    data = b"".join(b"GET /p%d HTTP/1.1\r\nhost: a\r\n\r\n" % n for n in range(20))
    said = world.raw(data + b"GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert statuses(said) == [200] * 21, said
    paths = sorted(head.split(b" ")[1] for head, _ in requests(world.plain))
    assert paths == sorted([b"/last", *(b"/p%d" % n for n in range(20))]), paths


def after_a_refusal_nothing_of_the_same_connection_is_served(world):
    """RFC 9112 § 6.3, 11.2"""
    for name, (data, status) in REFUSED.items():
        said = world.raw(data + SECOND, timeout=2)
        assert statuses(said) == [status], f"{name}: {said!r}"
    assert not [head for head, _ in requests(world.plain) if b"smuggled" in head]


def fields_of_one_hop_go_no_further(world):
    """RFC 9110 § 7.6.1"""
    world.raw(
        b"GET /h HTTP/1.1\r\nhost: a\r\nconnection: close, x-mine, Content-Length, authorization\r\nx-mine: 1\r\nkeep-alive: 5\r\n"
        b"proxy-connection: keep-alive\r\nte: gzip\r\nupgrade: h2c\r\nhttp2-settings: AAAA\r\nproxy-authorization: x\r\nx-other: 1\r\n\r\n"
    )
    (head, _), = requests(world.plain)
    lower = head.lower()
    for name in [b"x-mine", b"keep-alive", b"proxy-connection", b"upgrade", b"http2-settings", b"proxy-authorization", b"te: gzip"]:
        assert name not in lower, (name, head)
    assert b"x-other: 1" in lower, head


def max_forwards_ends_an_options_here(world):
    """RFC 9110 § 7.6.2: at zero the gateway answers itself, else one less goes on."""
    said = world.raw(b"OPTIONS /m HTTP/1.1\r\nhost: a\r\nmax-forwards: 0\r\nconnection: close\r\n\r\n")
    assert statuses(said)[0] in (200, 204), said
    assert not requests(world.plain), requests(world.plain)
    for says, wanted in ((b"99999999999999999999999", b"18446744073709551614"), (b"+0", b"+0"), (b"5\r\nmax-forwards: 3", b"2")):
        world.plain.forget()
        world.raw(b"OPTIONS /m HTTP/1.1\r\nhost: a\r\nmax-forwards: " + says + b"\r\nconnection: close\r\n\r\n")
        (head, _), = requests(world.plain)
        assert head.lower().count(b"max-forwards") == 1 and b"max-forwards: " + wanted in head.lower(), head
    world.plain.forget()
    world.raw(b"OPTIONS /m HTTP/1.1\r\nhost: a\r\nmax-forwards: 7\r\nconnection: close\r\n\r\n")
    (head, _), = requests(world.plain)
    assert b"max-forwards: 6" in head.lower(), head


CASES = [refused(name, *what) for name, what in {**REFUSED, **FOREIGN}.items()]
CASES += [broken(name, chunks) for name, chunks in CHUNKS.items()]
CASES += [canonical(name, *what) for name, what in MADE_CANONICAL.items()]
CASES += [
    bare_line_feeds_end_lines_or_are_refused_and_never_go_on,
    a_body_that_ends_early_is_never_complete,
    pipelined_requests_are_answered_in_order,
    after_a_refusal_nothing_of_the_same_connection_is_served,
    fields_of_one_hop_go_no_further,
    max_forwards_ends_an_options_here,
]
