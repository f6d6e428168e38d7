"""HTTP/3 frame by frame over aioquic's QUIC: what a client says is bytes, right or wrong; nothing is sent or read but when a case says so."""

import socket
import struct
import time
from collections import namedtuple

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from pylsqpack import Decoder

DATA, HEADERS, CANCEL_PUSH, SETTINGS, PUSH_PROMISE, GOAWAY, MAX_PUSH_ID = 0x0, 0x1, 0x3, 0x4, 0x5, 0x7, 0xD
CONTROL, PUSH, ENCODER, DECODER = range(4)
NO_ERROR, GENERAL, INTERNAL, STREAM_CREATION, CLOSED_CRITICAL, FRAME_UNEXPECTED, FRAME_ERROR, EXCESSIVE_LOAD, ID_ERROR, SETTINGS_ERROR = range(0x100, 0x10A)
MISSING_SETTINGS, REJECTED, CANCELLED, INCOMPLETE, MESSAGE, CONNECT, VERSION_FALLBACK = range(0x10A, 0x111)
DECOMPRESSION_FAILED = 0x200

# `length`: of the body.
Answer = namedtuple("Answer", "status fields body trailers")


def number(value):
    """RFC 9000 § 16."""
    for size, bits in ((1, 0), (2, 0x4000), (4, 0x80000000), (8, 0xC000000000000000)):
        if value < 1 << (8 * size - 2):
            return (value | bits).to_bytes(size)
    raise ValueError(value)


def frame(kind, payload=b"", length=None):
    """`length`: what it claims to be long."""
    return number(kind) + number(len(payload) if length is None else length) + payload


def prefixed(value, bits, first=0):
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out, value = bytes([first | most]), value - most
    while value >= 128:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def block(*fields):
    """A field section of literals, as they are: RFC 9204 § 4.5.6."""
    out = b"\0\0"
    for name, value in fields:
        name, value = (part.encode("latin-1") if isinstance(part, str) else part for part in (name, value))
        out += prefixed(len(name), 3, 0x20) + name + prefixed(len(value), 7) + value
    return out


def head(path="/", method="GET", *more, without=(), authority="world.test"):
    fields = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path), *more]
    return frame(HEADERS, block(*(field for field in fields if field[0] not in without)))


class Stream:
    def __init__(self):
        self.data, self.ended, self.reset, self.stopped = b"", False, None, None


class Client:
    """`greet`: its control stream and settings are sent. `window`: of a stream, and with it of the connection."""

    def __init__(self, world, name="world.test", greet=True, window=1 << 20, within=10, certificate=None, protocols=("h3",)):
        world.speaks_http3()
        self.config = QuicConfiguration(is_client=True, alpn_protocols=list(protocols), server_name=name, max_stream_data=window,
                                        max_data=max(window, 1 << 20), cafile=str(world.folder / "ca.pem"))
        if certificate:
            self.config.load_cert_chain(*certificate)
        self.quic, self.streams, self.closed, self.shaken = QuicConnection(configuration=self.config), {}, None, False
        self.line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.line.connect(world.secure)
        self.address = world.secure
        self.quic.connect(self.address, time.time())
        self.until(lambda: self.shaken or self.closed, within, "no handshake")
        if greet and self.shaken:
            self.say(2, number(CONTROL) + frame(SETTINGS))
            self.send()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.closed is None:
            self.quic.close(NO_ERROR)
            self.send()
        self.line.close()

    def say(self, stream, data, end=False):
        """To be sent with the rest."""
        self.quic.send_stream_data(stream, data, end)

    def send(self):
        for datagram, _ in self.quic.datagrams_to_send(time.time()):
            try:
                self.line.send(datagram)
            except OSError:
                pass

    def ask(self, path="/", method="GET", *more, body=None, end=True, **how):
        """A request; its stream."""
        stream = self.quic.get_next_available_stream_id()
        said = head(path, method, *more, **how) + (frame(DATA, body) if body else b"")
        self.say(stream, said, end)
        self.send()
        return stream

    def raw(self, *frames, end=True):
        """A stream with these bytes."""
        stream = self.quic.get_next_available_stream_id()
        self.say(stream, b"".join(frames), end)
        self.send()
        return stream

    def uni(self, data, end=False):
        stream = self.quic.get_next_available_stream_id(is_unidirectional=True)
        self.say(stream, data, end)
        self.send()
        return stream

    def until(self, true, within=10, what="it does not come"):
        end = time.time() + within
        while True:
            self.send()
            while (event := self.quic.next_event()) is not None:
                self.hear(event)
            if true():
                return
            now = time.time()
            assert now < end, what
            due = min(end, self.quic.get_timer() or end, now + 0.05)
            self.line.settimeout(max(0.001, due - now))
            try:
                data = self.line.recv(65536)
            except (TimeoutError, ConnectionError):
                timer = self.quic.get_timer()
                if timer is not None and timer <= time.time():
                    self.quic.handle_timer(time.time())
                continue
            self.quic.receive_datagram(data, self.address, time.time())

    def hear(self, event):
        if isinstance(event, events.HandshakeCompleted):
            self.shaken = True
        elif isinstance(event, events.ConnectionTerminated):
            self.closed = event
        elif isinstance(event, events.StreamDataReceived):
            stream = self.stream(event.stream_id)
            stream.data += event.data
            stream.ended |= event.end_stream
        elif isinstance(event, events.StreamReset):
            self.stream(event.stream_id).reset = event.error_code
        elif isinstance(event, events.StopSendingReceived):
            self.stream(event.stream_id).stopped = event.error_code

    def stream(self, number):
        return self.streams.setdefault(number, Stream())

    def result(self, number, within=10):
        """Of a stream: `("status", 200)` with its end, `("reset", code)`; of all: `("closed", code)`."""
        stream = self.stream(number)
        self.until(lambda: stream.ended or stream.reset is not None or self.closed, within, f"nothing is said about stream {number}")
        if stream.ended:
            return "status", parsed(stream.data).status
        if stream.reset is not None:
            return "reset", stream.reset
        return "closed", self.closed.error_code

    def answer(self, number, within=10):
        kind, what = self.result(number, within)
        assert kind == "status", (kind, what)
        return parsed(self.stream(number).data)

    def get(self, path="/", *more, **how):
        return self.answer(self.ask(path, "GET", *more, **how))

    def ends(self, within=10):
        """The code it is closed with."""
        self.until(lambda: self.closed, within, "it goes on")
        return self.closed.error_code

    def control(self):
        """Frames of its control stream."""
        for stream in self.streams.values():
            if stream.data[:1] == bytes([CONTROL]):
                return list(frames(stream.data[1:]))
        return []


def integer(data, at):
    size = 1 << (data[at] >> 6)
    return int.from_bytes(data[at:at + size]) & (1 << (8 * size - 2)) - 1, at + size


def frames(data):
    at = 0
    while at < len(data):
        kind, at = integer(data, at)
        length, at = integer(data, at)
        yield kind, data[at:at + length]
        at += length


def parsed(data):
    decoder, status, fields, body, trailers = Decoder(0, 0), None, {}, b"", None
    for place, (kind, payload) in enumerate(frames(data)):
        if kind == DATA:
            body += payload
        elif kind == HEADERS:
            _, told = decoder.feed_header(4 * place, payload)
            told = [(name.decode(), value.decode("latin-1")) for name, value in told]
            if status is None:
                fields = dict(told)
                status = int(fields.pop(":status"))
            else:
                trailers = dict(told)
    return Answer(status, fields, body, trailers)


def initial(destination):
    """The first packet of a handshake that is never gone on with."""
    config = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name="world.test")
    quic = QuicConnection(configuration=config)
    quic.connect(destination, time.time())
    return quic.datagrams_to_send(time.time())[0][0]


def is_retry(datagram):
    """RFC 9000 § 17.2.5, of version 1."""
    return datagram[0] & 0xF0 == 0xF0 and struct.unpack(">I", datagram[1:5])[0] == 1
