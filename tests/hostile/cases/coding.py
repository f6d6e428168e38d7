"""Content codings (RFC 9110 § 8.4): what the node compresses is what the origin said, for every coding and however the origin cut it;
and what it has to decompress is bounded, whatever it is."""

import gzip
import json
import os
import random
import shutil
import subprocess
import threading
import time
import zlib

import brotli
import zstandard

from origin import Answer, Origin, chunk, echo, head

READ = {
    "gzip": lambda data: zlib.decompress(data, 31),
    "br": brotli.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}
WRITE = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda data: brotli.compress(data, quality=9),
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}
WORDS = b'{"id": 7, "name": "the quick brown fox", "tags": ["a", "b"]}, '
said, pieces = {}, {}


def drawn(request, line):
    """A body drawn by chance, in chunks drawn by chance, some of them a moment apart."""
    seed = request.target.split("?")[1]
    chance = random.Random(seed)
    length = chance.choice([0, 1, 900, 5_000, 70_000, 400_000])
    body = chance.randbytes(length) if chance.random() < 0.3 else (WORDS * (length // len(WORDS) + 1))[:length]
    said[seed] = body
    if chance.random() < 0.3:
        line.sendall(head(content_type="application/json", content_length=len(body), etag='"x"') + body)
        return
    line.sendall(head(content_type="application/json", transfer_encoding="chunked", etag='"x"'))
    at = 0
    while at < len(body):
        piece = body[at : at + chance.choice([1, 7, 300, 5_000, 100_000])]
        line.sendall(chunk(piece))
        at += len(piece)
        if chance.random() < 0.05:
            time.sleep(0.005)
    line.sendall(b"0\r\n\r\n")


def large(request, line):
    """20 MB that shrink, with a strong name; a part of it where one is asked for."""
    body = WORDS * (20_000_000 // len(WORDS))
    if "range" in request.fields:
        line.sendall(head(206, content_type="application/json", content_range=f"bytes 0-9/{len(body)}", content_length=10, etag='"x"') + body[:10])
    elif request.fields.get("if-none-match", "").endswith('"x"'):
        line.sendall(head(304, etag='"x"'))
    else:
        line.sendall(head(content_type="application/json", content_length=len(body), etag='"x"', accept_ranges="bytes"))
        if request.method != "HEAD":
            line.sendall(body)


def kept(request, line):
    body = WORDS * 100
    line.sendall(head(content_type="application/json", content_length=len(body), cache_control="max-age=60", etag='"k"') + body)


def endless(request, line):
    """Words without end."""
    line.sendall(head(content_type="text/plain", transfer_encoding="chunked"))
    while True:
        line.sendall(chunk(WORDS * 1_000))


def ready(world):
    if hasattr(world, "coder"):
        return
    world.coder = Origin({"drawn": drawn, "large": large, "kept": kept, "endless": endless, "echo": echo})
    to = [{"upstream": "coder"}]
    world.publish(
        upstreams=[world.coder.upstream("coder")],
        routes=[
            {"name": "coder", "match": {"path": "/coder/*"}, "to": to, "compression": {"min_size": "1B", "types": ["*/*"]}},
            {"name": "coder-kept", "match": {"path": "/coder-kept/*"}, "to": to, "compression": {}, "cache": {}},
            {"name": "alive", "match": {"path": "/alive"}, "respond": {"status": 200}},
            {"name": "undone", "match": {"path": "/undone/*"}, "to": to, "decompress": True, "max_body": "16MiB"},
        ],
    )


def ask(world, path, method="GET", body=b"", **fields):
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    length = f"content-length: {len(body)}\r\n" if body else ""
    return Answer(world.raw(f"{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{length}{fields}\r\n".encode() + body, timeout=60))


def what_is_compressed_reads_as_it_was(world):
    """RFC 9110 § 8.4.1, for bodies and cuts drawn by chance."""
    ready(world)
    packed = 0
    for seed in range(60):
        for coding, read in READ.items():
            answer = ask(world, f"/coder/drawn?{seed}", accept_encoding=coding)
            if answer.fields.get("content-encoding"):
                packed += 1
                assert answer.fields["content-encoding"] == coding and "content-length" not in answer.fields, answer.head
                assert answer.fields["etag"] == 'W/"x"', answer.head
                answer.body = read(answer.body)
            assert answer.body == said[str(seed)], f"{seed} {coding}: {len(answer.body)} of {len(said[str(seed)])} bytes"
            assert answer.fields.get("vary", "accept-encoding") == "accept-encoding", answer.head
    assert packed > 120, packed


def curl_reads_it(world):
    """`curl --compressed`, which undoes what it asked for."""
    ready(world)
    assert shutil.which("curl"), "curl is missing: apt-get install curl"
    where = "http://%s:%d" % world.address
    done = subprocess.run(["curl", "-sS", "--compressed", "-D", "-", "-o", "/dev/stdout", f"{where}/coder/drawn?7"], capture_output=True, check=True)
    assert done.stdout.endswith(said["7"]), len(done.stdout)
    done = subprocess.run(["curl", "-sS", "--compressed", "-w", "%{size_download}", "-o", os.devnull, f"{where}/coder/large"], capture_output=True, check=True)
    assert 0 < int(done.stdout) < 1_000_000, done.stdout


def the_best_that_a_client_takes(world):
    """§ 12.5.3: weights, `*`, `identity`; what is not acceptable is not sent."""
    ready(world)
    for accepts, want in [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=0.9, br;q=1.0, zstd;q=0.1", "br"),
        ("GZIP", "gzip"),
        ("*", "zstd"),
        ("*, zstd;q=0", "br"),
        ("identity, gzip;q=0.5", None),
        ("gzip;q=0", None),
        ("compress", None),
        ("", None),
    ]:
        answer = ask(world, "/coder/drawn?7", accept_encoding=accepts)
        assert answer.fields.get("content-encoding") == want and answer.fields["vary"] == "accept-encoding", f"{accepts}: {answer.head}"


def heads_parts_and_names(world):
    """§ 9.3.2: HEAD tells what GET would. § 14: a part is of what is not compressed. § 15.4.5: a 304 names what the client has."""
    ready(world)
    got, told = (ask(world, "/coder/large", method, accept_encoding="br") for method in ("GET", "HEAD"))
    volatile = ("date", "x-request-id", "transfer-encoding")
    assert {k: v for k, v in got.fields.items() if k not in volatile} == {k: v for k, v in told.fields.items() if k not in volatile}, told.head
    assert told.body == b"" and told.fields["content-encoding"] == "br" and "accept-ranges" not in told.fields
    part = ask(world, "/coder/large", accept_encoding="gzip", range="bytes=0-9")
    assert part.status == 206 and part.body == WORDS[:10] and "content-encoding" not in part.fields, part.head
    good = ask(world, "/coder/large", accept_encoding="gzip", if_none_match=got.fields["etag"])
    assert good.status == 304 and good.fields["etag"] == got.fields["etag"], good.head


def the_cache_keeps_one_body_for_all(world):
    """docs/cache.md: what is kept is what the origin said; each client has it as he takes it."""
    ready(world)
    for coding in ("gzip", "br", None, "zstd", "gzip"):
        answer = ask(world, "/coder-kept/kept", accept_encoding=coding or "identity")
        body = READ[coding](answer.body) if coding else answer.body
        assert answer.fields.get("content-encoding") == coding and body == WORDS * 100, answer.head
        if coding:
            again = ask(world, "/coder-kept/kept", accept_encoding=coding, if_none_match=answer.fields["etag"])
            assert again.status == 304 and again.fields["etag"] == answer.fields["etag"], again.head
    fetched = [request for request in world.coder.asked if request.target == "/coder-kept/kept"]
    assert len(fetched) == 1, len(fetched)


def who_does_not_read_what_is_compressed(world):
    """Forty answers without end that nobody reads: each holds a coder and a piece, no more."""
    ready(world)
    before, lines = world.memory(), []
    for n in range(40):
        line = world.connect()
        line.sendall(b"GET /coder/endless HTTP/1.1\r\nhost: a\r\naccept-encoding: %s\r\n\r\n" % (b"gzip", b"br", b"zstd")[n % 3])
        lines.append(line)
    heights = [before]
    until = time.time() + 30
    while len(heights) < 4 or heights[-1] - heights[-3] >= 4:  # Until all sockets are full, however busy the machine.
        assert time.time() < until, f"still rising: {heights}"
        time.sleep(1)
        heights.append(world.memory())
    full = heights[-1]
    time.sleep(2)
    heights.append(world.memory())
    for line in lines:
        line.close()
    assert heights[-1] - before < 160, heights
    assert heights[-1] - full < 16, heights


def others_are_served_while_much_is_compressed(world):
    """What takes a processor's time takes it in turns."""
    ready(world)
    asking = [threading.Thread(target=ask, args=(world, "/coder/large"), kwargs={"accept_encoding": "br"}) for _ in range(6)]
    for one in asking:
        one.start()
    slowest = 0
    while any(one.is_alive() for one in asking):
        began = time.time()
        assert ask(world, "/alive").status == 200
        slowest = max(slowest, time.time() - began)
    assert slowest < 5, f"{slowest:.2f} s"


def requests_are_decompressed(world):
    """`decompress: true`: the upstream gets what was meant, without a coding, whichever it was and however it is cut."""
    ready(world)
    body = WORDS * 3_000
    for coding, write in WRITE.items():
        coded = write(body)
        for size in (len(coded), 1_000):
            wire = b"".join(chunk(coded[at : at + size]) for at in range(0, len(coded), size)) + b"0\r\n\r\n"
            ask_for = f"POST /undone/echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-encoding: {coding}\r\ntransfer-encoding: chunked\r\n\r\n"
            answer = Answer(world.raw(ask_for.encode() + wire))
            told = json.loads(answer.body)
            assert told["length"] == len(body) and "content-encoding" not in told["fields"], (coding, told["length"])
    answer = ask(world, "/undone/echo", "POST", b"as it is")
    assert b'"length": 8' in answer.body
    for fields, body, status, code in [
        ({"content_encoding": "compress"}, b"x", 415, "coding_unknown"),
        ({"content_encoding": "gzip, gzip"}, b"x", 415, "coding_unknown"),
        ({"content_encoding": "gzip"}, b"not at all", 400, "coding_invalid"),
        ({"content_encoding": "gzip"}, gzip.compress(WORDS * 100)[:-9], 400, "coding_invalid"),
        ({"content_encoding": "br"}, brotli.compress(WORDS * 100)[:-5], 400, "coding_invalid"),
        ({"content_encoding": "zstd"}, WRITE["zstd"](WORDS * 100)[:-5], 400, "coding_invalid"),
    ]:
        answer = ask(world, "/undone/echo", "POST", body, **fields)
        assert (answer.status, answer.code()) == (status, code), answer.head
        assert status != 415 or answer.fields["accept-encoding"] == "gzip, deflate, br, zstd"


def bombs(world):
    """A few kilobytes that become a gigabyte: given up early, in memory that does not grow, and the upstream gets no whole request."""
    ready(world)
    before, asked = world.memory(), len(world.coder.asked)
    packer, made = zlib.compressobj(9, zlib.DEFLATED, 31), b""
    for _ in range(1024):
        made += packer.compress(bytes(1 << 20))
    made += packer.flush()
    twice = gzip.compress(bytes(40 << 20))
    wide = zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=27, compression_level=1)).compressobj()
    wide = wide.compress(os.urandom(1 << 20)) + wide.flush()
    for coding, bomb, statuses in [
        ("gzip", made, (413,)),
        ("gzip", twice, (413,)),
        ("br", brotli.compress(bytes(400 << 20), quality=5), (413,)),
        ("zstd", zstandard.ZstdCompressor().compress(bytes(1 << 30)), (413,)),
        ("deflate", zlib.compress(bytes(100 << 20)), (413,)),
        ("zstd", wide, (400,)),  # A window that nobody should have to hold: RFC 9659.
        ("gzip", b"".join(gzip.compress(b"") for _ in range(100_000)) * 8, (200, 413)),
    ]:
        began = time.time()
        answer = ask(world, "/undone/echo", "POST", bomb, content_encoding=coding)
        assert answer.status in statuses, (coding, len(bomb), answer.head)
        assert time.time() - began < 30, f"{coding}: {time.time() - began:.1f} s"
    assert world.memory() - before < 48, f"{world.memory() - before:.0f} MB"
    assert len(world.coder.asked) <= asked + 1


CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello " * 2_000}]}
SAID = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "there " * 500}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}


def completions(request, line):
    """A provider that takes no compressed calls."""
    assert "content-encoding" not in request.fields and json.loads(request.body)["messages"] == CHAT["messages"]
    told = json.dumps(SAID).encode()
    line.sendall(head(content_type="application/json", content_length=len(told)) + told)


def calls_of_models_come_and_go_compressed(world):
    """A call is read before it goes on: so it is decompressed, within the bounds of any other."""
    provider = Origin({"completions": completions})
    world.publish(
        providers=[{"name": "coded", "kind": "openai_compatible", "url": f"http://127.0.0.1:{provider.port}/v1"}],
        models=[{"name": "m", "deployments": [{"provider": "coded", "model": "m"}]}],
        routes=[{"name": "coded", "match": {"path": "/coded/*"}, "llm": {"models": ["m"]}, "compression": {}}],
    )
    call = json.dumps(CHAT).encode()
    where = "/coded/v1/chat/completions"
    for coding, write in WRITE.items():
        answer = ask(world, where, "POST", write(call), content_type="application/json", content_encoding=coding, accept_encoding="br")
        assert answer.status == 200 and answer.fields["content-encoding"] == "br", answer.head + answer.body
        assert json.loads(brotli.decompress(answer.body))["choices"] == SAID["choices"]
    for body, coding, want in [
        (call, "compress", (415, b"in a way that is not read")),
        (call, "gzip", (400, b"not compressed as its Content-Encoding says")),
        (gzip.compress(bytes(200 << 20)), "gzip", (413, b"grows beyond all measure")),
        (gzip.compress(os.urandom(17 << 20).hex().encode(), 1), "gzip", (413, b"larger than the route allows")),
    ]:
        answer = ask(world, where, "POST", body, content_type="application/json", content_encoding=coding)
        assert answer.status == want[0] and want[1] in answer.body, answer.head + answer.body[:300]


CASES = [
    what_is_compressed_reads_as_it_was,
    curl_reads_it,
    the_best_that_a_client_takes,
    heads_parts_and_names,
    the_cache_keeps_one_body_for_all,
    who_does_not_read_what_is_compressed,
    others_are_served_while_much_is_compressed,
    requests_are_decompressed,
    bombs,
    calls_of_models_come_and_go_compressed,
]
