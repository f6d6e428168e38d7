"""Clients that are slow, many, or never come to an end: each is bounded, and others are served all the while."""

import contextlib
import re
import shutil
import socket
import subprocess
import threading
import time

from frames import Client, ended as counted
from world import rest

HEAD_SECONDS = 10  # A whole head, from the first byte.
BODY_SECONDS = 10  # A body may be waited for so long before a rate is asked of it.


def many(world, count):
    return [world.connect(timeout=HEAD_SECONDS + 5) for _ in range(count)]


def ended(line):
    """Did the node end it, with an answer or without?"""
    try:
        while line.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def taken(line, head, piece, most):
    """Bytes of pieces, one like the other, that the node takes until it ends the connection or stops reading; at most so many."""
    sent = 0
    try:
        line.sendall(head)
        while sent < most:
            line.sendall(piece)
            sent += len(piece)
    except OSError:
        pass
    return sent


def slowloris(world):
    """A byte of a field now and then: the head is not awaited longer than its time, whatever comes."""
    began, lines = time.time(), many(world, 200)
    for line in lines:
        line.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n")
    while time.time() - began < HEAD_SECONDS + 3:
        for line in lines:
            try:
                line.sendall(b"x")
            except OSError:
                pass
        world.is_well()
        time.sleep(1)
    assert all(ended(line) for line in lines)
    assert time.time() - began < HEAD_SECONDS + 8


def who_says_nothing_is_left(world):
    """Neither a byte of a head, nor of a handshake."""
    lines = many(world, 100)
    time.sleep(HEAD_SECONDS + 2)
    for line in lines:
        line.settimeout(1)
    assert all(ended(line) for line in lines)


def a_head_without_end(world):
    """One field of megabytes; and a million of small ones. Refused at once; what still comes is dropped for a while, so that the
    refusal arrives."""
    before = world.memory()
    for piece in (b"x: " + b"a" * (1 << 16), b"x: y\r\n" * 10_000):
        with world.connect() as line:
            sent = taken(line, b"GET / HTTP/1.1\r\nhost: a\r\n", piece, 256 << 20)
            assert sent < 96 << 20, f"took {sent} bytes of a head"
    assert world.memory() - before < 16


def a_target_without_end(world):
    """RFC 9110 § 15.5.15"""
    said = world.raw(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", timeout=3)
    assert said[9:12] in (b"414", b"431", b"400"), said[:100]


def a_body_beyond_its_bound(world):
    """413 before it is all read, in memory that does not grow; with a length, and in chunks without end."""
    before = world.memory()
    said = world.raw(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9999999999999\r\n\r\n", timeout=3)
    assert said.startswith(b"HTTP/1.1 413 "), said[:100]
    with world.connect(timeout=3) as line:
        head, piece = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", b"10000\r\n" + b"a" * 65536 + b"\r\n"
        sent = taken(line, head, piece, 512 << 20)
        assert sent < 256 << 20, f"took {sent} bytes of a body"
        assert b" 200 " not in rest(line)[:20]
    assert world.memory() - before < 32


def chunks_of_one_byte(world):
    """What they cost stays in proportion: 50,000 in less than three seconds of a processor."""
    before = world.cpu()
    data = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n"
    assert world.raw(data, timeout=20).startswith(b"HTTP/1.1 200 ")
    assert world.cpu() - before < 3, world.cpu() - before


def who_does_not_read(world):
    """Large answers that nobody takes: the node holds little of each."""
    world.odd.script = b"HTTP/1.1 200 OK\r\ncontent-length: 33554432\r\n\r\n" + b"a" * (32 << 20)
    before, lines = world.memory(), []
    for _ in range(40):
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(world.address)
        line.sendall(b"GET /odd/large HTTP/1.1\r\nhost: a\r\n\r\n")
        lines.append(line)
    time.sleep(3)
    world.is_well()
    assert world.memory() - before < 60, f"{world.memory() - before:.0f} MB for 40 answers of 32 MB"
    for line in lines:
        line.close()


def pipelined_without_reading(world):
    """Requests without end whose answers nobody takes: the node stops reading."""
    before = world.memory()
    with world.connect(timeout=2) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sent = taken(line, b"", b"GET /p HTTP/1.1\r\nhost: a\r\n\r\n" * 500, 64 << 20)
        assert sent < 64 << 20, "everything was taken"
        world.is_well()
    assert world.memory() - before < 32


@contextlib.contextmanager
def others_are_served(world):
    """All the while."""
    stop, troubles = threading.Event(), []

    def watch():
        while not stop.is_set():
            try:
                world.is_well()
            except Exception as why:
                troubles.append(why)
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
    assert not troubles, troubles[0]


def given_back(world, descriptors, kept=20):
    """All but a few that the node keeps towards its upstreams."""
    until = time.time() + 15
    while world.descriptors() > descriptors + kept:
        assert time.time() < until, f"{world.descriptors()} of {descriptors} descriptors are left open"
        time.sleep(0.1)


def a_flood_of_connections(world):
    """Three thousand at once: others are served, and all that they took is given back."""
    descriptors, lines = world.descriptors(), []
    with others_are_served(world):
        try:
            for _ in range(3_000):
                lines.append(world.connect())
                lines[-1].sendall(b"GET / HTTP/1.1\r\n")
        finally:
            for line in lines:
                line.close()
    given_back(world, descriptors)


def narrow(world):
    """An upstream that takes four requests at once."""
    if all(one["name"] != "narrow" for one in world.document["upstreams"]):
        endpoint = {"url": f"http://127.0.0.1:{world.plain.port}"}
        world.publish(
            upstreams=[{"name": "narrow", "endpoints": [endpoint], "max_connections": 4}],
            routes=[{"name": "narrow", "match": {"path": "/narrow/*"}, "to": [{"upstream": "narrow"}]}],
        )


def narrow_is_served(world, times=20):
    for _ in range(times):
        said = world.raw(b"GET /narrow/get HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 200 "), said[:300]


HALF = [
    b"content-length: 10\r\n\r\nhalf",
    b"content-length: 100000\r\n\r\na",
    b"transfer-encoding: chunked\r\n\r\n",
    b"transfer-encoding: chunked\r\n\r\n5;ext",
    b"expect: 100-continue\r\ncontent-length: 100\r\n\r\n",
    b"content-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n",
]


def who_only_promises_a_body_takes_nothing_of_an_upstream(world):
    """Requests whose bodies have not begun, sixty by HTTP/1.1 and two hundred by h2, hold none of the four connections of their
    upstream: others are served by it."""
    narrow(world)
    lines = []
    for half in HALF * 10:
        lines.append(world.connect())
        lines[-1].sendall(b"POST /narrow/x HTTP/1.1\r\nhost: a\r\n" + half)
    with Client(world) as one, Client(world) as other:
        for client in (one, other):
            for stream in range(1, 201, 2):
                client.send(client.open(stream, end=False, method="POST", path="/narrow/h2"))
        narrow_is_served(world)
    assert not any(b"POST" in heard for heard in world.plain.heard), world.plain.heard
    lines[0].sendall(b" whole")
    assert lines[0].recv(100).startswith(b"HTTP/1.1 200 ")
    for line in lines:
        line.close()


def who_drips_a_body_is_told_and_left(world):
    """RFC 9110 § 15.5.9. A byte now and then, for as long as it likes: less than the rate that a route asks for is a 408, counted, and
    nobody waits for it."""
    narrow(world)
    before, began = counted(world).get("body_timeout", 0), time.time()
    lines = many(world, 40)
    for line in lines:
        line.sendall(b"POST /narrow/drip HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\na")
    while time.time() - began < BODY_SECONDS + 2:
        for line in lines:
            with contextlib.suppress(OSError):
                line.sendall(b"b")
        narrow_is_served(world, 2)
        time.sleep(1)
    said = [rest(line) for line in lines]
    assert all(one.startswith(b"HTTP/1.1 408 ") and b"body_timeout" in one for one in said), said[0]
    for line in lines:
        line.close()
    until = time.time() + 10
    while counted(world).get("body_timeout", 0) < before + 40:
        assert time.time() < until, counted(world)
        time.sleep(0.1)


def slowhttptest_in_all_its_modes(world):
    """Debian's slowhttptest: slow heads, slow bodies, overlapping ranges, slow reading, 200 connections of each at once. By its own
    word, too, the service stays available."""
    assert shutil.which("slowhttptest"), "slowhttptest is missing: apt-get install slowhttptest"
    world.odd.script = b"HTTP/1.1 200 OK\r\ncontent-length: 524288\r\n\r\n" + b"a" * (512 << 10)
    before, descriptors = world.memory(), world.descriptors()
    where = "http://%s:%d" % world.address
    modes = {
        "slow heads": ["-H", "-i", "2", "-u", f"{where}/heads"],
        "slow bodies": ["-B", "-i", "2", "-s", "8192", "-t", "POST", "-u", f"{where}/bodies"],
        "ranges": ["-R", "-a", "1", "-b", "3000", "-t", "GET", "-u", f"{where}/ranges"],
        "slow reading": ["-X", "-w", "512", "-y", "1024", "-n", "2", "-z", "32", "-k", "3", "-u", f"{where}/odd/large"],
    }
    with others_are_served(world):
        running = {
            mode: subprocess.Popen(["slowhttptest", "-c", "200", "-r", "50", "-l", "15", "-p", "3", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for mode, words in modes.items()
        }
        highest = 0
        while any(one.poll() is None for one in running.values()):
            highest = max(highest, world.memory() - before)
            time.sleep(0.2)
    for mode, one in running.items():
        said = re.sub(r"\x1b\[[0-9;]*m", "", one.stdout.read())
        available = re.findall(r"service available:\s*(\w+)", said)
        assert available and set(available) == {"YES"}, f"{mode}: {available}\n{said[-2000:]}"
    assert highest < 128, f"{highest:.0f} MB"
    world.odd.script = None
    given_back(world, descriptors, kept=100)


CASES = [
    slowloris,
    who_says_nothing_is_left,
    a_head_without_end,
    a_target_without_end,
    a_body_beyond_its_bound,
    chunks_of_one_byte,
    who_does_not_read,
    pipelined_without_reading,
    a_flood_of_connections,
    who_only_promises_a_body_takes_nothing_of_an_upstream,
    who_drips_a_body_is_told_and_left,
    slowhttptest_in_all_its_modes,
]
