"""What goes on is read back by two parsers that nobody here wrote, h11 and Node.js: both find the requests that were sent, no other,
and the same bodies. RFC 9110, 9112. Requests are drawn by chance, well-formed or not: what is refused has to be refused whole."""

import json
import random
import subprocess
from pathlib import Path

import h11

SEEDS, EACH = 12, 40


def drawn(chance, nth):
    """Bytes of a request, and its body if it is well-formed without doubt (None: who knows)."""
    sure = True

    def odd(good, *bad):
        nonlocal sure
        if chance.random() < 0.04:
            sure = False
            return chance.choice(bad)
        return good

    method = chance.choice([b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"HEAD", b"PROPFIND"])
    # Dots beside escaped slashes or parameters are refused (cases of framing.py).
    either = chance.choice([[b"/."], [b"/%2Fc", b";p=1"]])
    path = b"/r%d" % nth + b"".join(chance.choice([b"/a", b"/%41", b"//b", b"/~x", b"/%C3%A9", *either]) for _ in range(chance.randrange(4)))
    target = path + chance.choice([b"", b"?", b"?a=b&c=%20d", b"?x=//y/../z"])
    fields = [b"host" + odd(b"", b" ") + b":" + chance.choice([b"a", b" a", b"\ta "])]
    for _ in range(chance.randrange(5)):
        name = chance.choice([b"X-One", b"x-two", b"Accept", b"cookie", b"X-Long", b"Trailer", b"Range", b"Via", b"X-Empty"])
        value = chance.choice([b"1", b"a, b", b"\xe9", b"", b"x" * 300, b'"q;,"', odd(b"y", b"a\0b", b"a\rb", b"a\r\n b")])
        fields.append(name + b":" + chance.choice([b" ", b"", b"\t "]) + value)
    body = bytes(chance.randrange(256) for _ in range(chance.choice([0, 0, 1, 5, 300, 5_000])))
    if chance.random() < 0.2:
        body += b"\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"
    framed = chance.random()
    if framed < 0.4 and body:
        fields.append(b"content-length: " + odd(b"%d" % len(body), b"+%d" % len(body), b"%d" % (len(body) - 1), b"%d, 5" % len(body)))
        if odd(None, b"x"):
            fields.append(odd(b"transfer-encoding: chunked", b"transfer-encoding: Chunked, identity"))
        wire = body
    elif framed < 0.9:
        fields.append(odd(b"transfer-encoding: chunked", b"transfer-encoding: xchunked", b"transfer-encoding: chunked, chunked", b"transfer-encoding:\x0bchunked"))
        wire, at = b"", 0
        while at < len(body):
            size = chance.randrange(1, 700)
            piece = body[at : at + size]
            wire += b"%x" % len(piece) + chance.choice([b"", b";a=b", b'; q="x"']) + odd(b"\r\n", b"\n", b" \r\n") + piece + odd(b"\r\n", b"\n", b"\rx")
            at += size
        wire += odd(b"0\r\n", b"00x\r\n") + chance.choice([b"", b"", b"x-late: 1\r\n", b"x-late: 1\r\ncontent-length: 7\r\n"]) + b"\r\n"
    else:
        body = wire = b""
    chance.shuffle(fields)
    head = method + b" " + target + b" HTTP/1.1\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n"
    return head + wire, (method, body) if sure else None


def by_h11(heard):
    """Whole requests and their bodies in the bytes of a connection."""
    reader, found, ended = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20), [], 0
    reader.receive_data(heard)
    while True:
        event = reader.next_event()
        if isinstance(event, h11.Request):
            found.append([event.method.decode(), event.target.decode(), b""])
        elif isinstance(event, h11.Data):
            found[-1][2] += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            ended += 1
            reader.send(h11.Response(status_code=204, headers=[]))
            reader.send(h11.EndOfMessage())
        elif event is h11.PAUSED:
            reader.start_next_cycle()
        else:
            assert event is h11.NEED_DATA, event
            return [tuple(one) for one in found[:ended]]


def by_node(connections):
    done = subprocess.run(
        ["node", Path(__file__).parent.parent / "readback.mjs"],
        input=json.dumps([heard.decode("latin1") for heard in connections]), capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [("error", one["error"], b"") if "error" in one else (one["method"], one["target"], one["body"].encode("latin1")) for one in json.loads(done.stdout)]


def seeded(seed):
    def case(world):
        chance = random.Random(seed)
        wanted = []
        for nth in range(EACH):
            data, sure = drawn(chance, nth)
            data = data.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
            said = world.raw(data, timeout=0.5 if sure is None else 5)
            if sure:
                assert said.startswith(b"HTTP/1.1 200 "), f"seed {seed}: {data!r} was answered {said!r}"
                wanted.append((sure[0].decode(), b"/r%d" % nth, sure[1]))
        connections = world.plain.all()
        mine = [one for heard in connections for one in by_h11(heard)]
        others = by_node(connections)
        whole = [one for one in mine if not one[1].startswith("/well")]
        assert sorted(mine) == sorted(one for one in others if one[0] != "error"), f"seed {seed}: h11 and Node.js disagree"
        assert not [one for one in mine if "hidden" in one[1]], f"seed {seed}: a hidden request came out"
        for method, path, body in wanted:
            same = [one for one in whole if one[0] == method and one[1].encode().startswith(path) and one[1].encode()[len(path) : len(path) + 1] in (b"", b"/", b"?", b";") and one[2] == body]
            assert len(same) == 1, f"seed {seed}: {method} {path} with {len(body)} bytes came out {len(same)} times"

    case.__name__ = f"read_back_alike_seed_{seed}"
    return case


CASES = [seeded(seed) for seed in range(SEEDS)]
