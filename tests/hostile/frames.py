"""HTTP/2 frame by frame: what a client says is bytes, right or wrong; what it hears is told as frames."""

import contextlib
import ssl
import struct
import threading
import time
from collections import namedtuple

from hpack import Decoder, Encoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITISED = 1, 1, 4, 8, 32
(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL,
 COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM) = range(12)
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = range(1, 7)
CLOSED = "closed"

# `fields`: of HEADERS, by name.
Frame = namedtuple("Frame", "kind flags stream payload fields")


def frame(kind, flags=0, stream=0, payload=b"", length=None):
    """`length`: what it claims to be long."""
    return struct.pack(">I", len(payload) if length is None else length)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(*pairs):
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", *pair) for pair in pairs))


def window(stream, by):
    return frame(WINDOW_UPDATE, stream=stream, payload=struct.pack(">I", by))


def reset(stream, code=CANCEL):
    return frame(RST_STREAM, stream=stream, payload=struct.pack(">I", code))


def ping(payload=b"12345678", flags=0):
    return frame(PING, flags, payload=payload)


def priority(stream, on=0, weight=15):
    return frame(PRIORITY, stream=stream, payload=struct.pack(">IB", on, weight))


def text(data):
    """A string literal of HPACK, not in Huffman's code; up to 126 bytes."""
    return bytes([len(data)]) + data


class Client:
    """`greet`: the preface and settings are exchanged."""

    def __init__(self, world, *pairs, greet=True, receive=None, timeout=10):
        self.encoder, self.decoder, self.kept, self.gone, self.code = Encoder(), Decoder(), b"", False, CLOSED
        self.line = world.connect(timeout, receive)
        if greet:
            self.send(PREFACE, settings(*pairs))
            told = self.until(lambda heard: heard.kind == SETTINGS and not heard.flags & ACK)
            self.theirs = dict(struct.iter_unpack(">HI", told.payload))
            self.send(frame(SETTINGS, ACK))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.line.close()

    def send(self, *frames):
        """`False`: it has hung up."""
        try:
            self.line.sendall(b"".join(frames))
        except (ConnectionError, TimeoutError, ssl.SSLError):
            self.gone = True
        return not self.gone

    def head(self, path="/", method="GET", *more, without=()):
        fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "a"), *more]
        return self.block(*(field for field in fields if field[0] not in without))

    def block(self, *fields):
        return self.encoder.encode(fields, huffman=False)

    def open(self, stream, block=None, end=True, **how):
        """A request in one HEADERS frame."""
        flags = END_HEADERS | (END_STREAM if end else 0)
        return frame(HEADERS, flags, stream, self.head(**how) if block is None else block)

    def next(self):
        """`None`: nothing more comes."""
        while len(self.kept) < 9 or len(self.kept) < 9 + int.from_bytes(self.kept[:3]):
            try:
                piece = self.line.recv(65536)
            except (ConnectionError, TimeoutError, ssl.SSLError) as why:
                self.silent = isinstance(why, TimeoutError)
                return None
            if not piece:
                self.silent = False
                return None
            self.kept += piece
        length = int.from_bytes(self.kept[:3])
        kind, flags, stream = struct.unpack(">BBI", self.kept[3:9])
        payload, self.kept = self.kept[9:9 + length], self.kept[9 + length:]
        if kind == GOAWAY:
            self.code = int.from_bytes(payload[4:8])
        return Frame(kind, flags, stream, payload, dict(self.decoder.decode(payload)) if kind == HEADERS else None)

    def until(self, wanted):
        """The first frame for which this is true. `None`: it did not come."""
        while (heard := self.next()) is not None:
            if wanted(heard):
                return heard
        return None

    def ends(self, within=10):
        """The code of its GOAWAY, or `CLOSED`. `None`: it goes on."""
        self.line.settimeout(within)
        while self.next() is not None:
            pass
        return None if self.silent else self.code

    def result(self, stream):
        """Of a stream: `("status", 200)`, `("reset", code)`; of all: `("goaway", code)`, `("closed",)`."""
        while (heard := self.next()) is not None:
            if heard.kind == GOAWAY and heard.payload[4:8] != bytes(4):
                return "goaway", int.from_bytes(heard.payload[4:8])
            if heard.kind == HEADERS and heard.stream == stream:
                return "status", int(heard.fields[":status"])
            if heard.kind == RST_STREAM and heard.stream == stream:
                return "reset", int.from_bytes(heard.payload)
        assert not self.silent, f"nothing is said about stream {stream}"
        return ("closed",)

    def is_alive(self):
        """A ping comes back."""
        self.send(ping(b"are you?"))
        return self.until(lambda heard: heard.kind == PING and heard.flags & ACK and heard.payload == b"are you?") is not None

    def flood(self, frames, times):
        """Sends these again and again, until it hangs up. Reads nothing."""
        piece = frames * max(1, 8192 // len(frames))
        left = times * len(frames)
        while left > 0 and self.send(piece[:left]):
            left -= len(piece)


@contextlib.contextmanager
def beside(world):
    """All the while somebody else is served."""
    over, failed = threading.Event(), []

    def ask():
        while not over.is_set():
            try:
                world.is_well()
            except Exception as why:
                failed.append(why)
                return
            time.sleep(0.02)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join()
    assert not failed, failed


def ended(world):
    """Connections that it ended, by reason."""
    lines = (line for line in world.metrics().splitlines() if line.startswith("tidegate_connections_ended_total{"))
    return {line.split('"')[1]: float(line.rsplit(" ", 1)[1]) for line in lines}
