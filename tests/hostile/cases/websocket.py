"""WebSockets (RFC 6455) through the node, between clients and servers that others wrote: PyPI's `websockets` and npm's `ws`, each with each.
What they say to each other passes untouched; what the node holds of it is bounded. (Autobahn's suite is not among them: its fuzzer,
`autobahntestsuite`, needs Python 2, and `autobahn` alone has none.)"""

import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.settings
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import serve

from cases.events import secured
from world import rest

LARGE = 16 << 20


def talk(line):
    """Echoes; some words ask for more."""
    try:
        for message in line:
            if message == "pieces":
                line.send(iter(["one ", "two ", "three"]))
            elif message == "ping":
                line.send("pong" if line.ping(b"hello").wait(5) else "none")
            elif isinstance(message, str) and message.startswith("close "):
                line.close(int(message.split()[1]), "until later")
            elif message == "die":
                line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                line.socket.shutdown(socket.SHUT_RDWR)
                line.socket.close()
            elif message == "flood":
                while True:
                    line.send(bytes(1 << 16))
                    flooded.append(1 << 16)
            elif message == "rest":
                time.sleep(3600)
            else:
                line.send(message)
    except ConnectionClosed:
        pass
    closes.append((line.protocol.close_code, line.protocol.close_reason))


def chosen(_line, offered):
    return "chat.v2" if "chat.v2" in offered else None


closes, flooded, unheard = [], [], []


def raw_backend(handle):
    server = socket.create_server(("127.0.0.1", 0))

    def run():
        while True:
            line, _ = server.accept()
            threading.Thread(target=handle, args=(line,), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()
    return server.getsockname()[1]


def switched(line):
    """The handshake of a server that looks at nothing."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += line.recv(4096)
    line.sendall(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    return head.partition(b"\r\n\r\n")[2]


def half_closed(line):
    """Answers once its client has said all that it had to say."""
    heard = switched(line)
    while piece := line.recv(65536):
        heard += piece
    line.sendall(b"%d bytes" % len(heard))
    line.close()


def says_what_it_is_told(line):
    """Status and fields of its answer stand in the target, in hex."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += line.recv(4096)
    line.sendall(bytes.fromhex(head.split(b" ")[1].partition(b"?")[2].decode()))
    line.recv(1)
    line.close()


def deaf(line):
    """Until the case is over."""
    switched(line)
    unheard.append(line)


def ready(world):
    if hasattr(world, "talker"):
        return
    world.talker = serve(talk, "127.0.0.1", 0, max_size=64 << 20, select_subprotocol=chosen, ping_interval=None)
    threading.Thread(target=world.talker.serve_forever, daemon=True).start()
    place = Path(sys.prefix).parent / "node"
    world.node_script = [str(place / "websocket.mjs")]
    world.node_server = subprocess.Popen(["node", *world.node_script, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    ports = {
        "talker": world.talker.socket.getsockname()[1],
        "node": int(world.node_server.stdout.readline()),
        "half": raw_backend(half_closed),
        "deaf": raw_backend(deaf),
        "told": raw_backend(says_what_it_is_told),
    }
    world.publish(
        upstreams=[{"name": f"ws-{name}", "endpoints": [{"url": f"http://127.0.0.1:{port}"}]} for name, port in ports.items()],
        routes=[
            {"name": f"ws-{name}", "match": {"path": f"/ws/{name}"}, "to": [{"upstream": f"ws-{name}"}], "upgrade": True, "compression": {"types": ["*/*"]}}
            for name in ports
        ]
        + [{"name": "ws-none", "match": {"path": "/ws/none"}, "to": [{"upstream": "ws-talker"}]}],
    )


def url(world, to):
    return "ws://%s:%d/ws/%s" % (*world.address, to)


def opened(world, to="talker", **more):
    return connect(url(world, to), max_size=64 << 20, ping_interval=None, **more)


def of_python_with_python_and_node(world):
    """§ 5.4 fragments with control frames between them, § 5.5.2 ping, § 1.9 subprotocols, RFC 7692 permessage-deflate from end to end."""
    ready(world)
    for to in ("talker", "node"):
        with opened(world, to, subprotocols=["chat.v1", "chat.v2"]) as line:
            assert line.subprotocol == "chat.v2"
            assert [type(one).__name__ for one in line.protocol.extensions] == ["PerMessageDeflate"], line.protocol.extensions
            for message in ("", "a", "naïve \U0001f30a", b"\0\xff" * 70_000, os.urandom(LARGE)):
                line.send(message)
                assert line.recv(timeout=30) == message, to
            line.send(iter(["one ", "two ", "three"]))
            assert line.recv(timeout=5) == "one two three"
            assert line.ping(b"mine").wait(5), "no pong"
            line.send("ping")
            assert line.recv(timeout=5).startswith("pong")
    with opened(world) as line:
        line.send("pieces")
        heard = list(line.recv_streaming())
        assert heard[:3] == ["one ", "two ", "three"] and not any(heard[3:]), f"frames are not as they were sent: {heard}"
    with opened(world, compression=None) as line:
        assert line.protocol.extensions == []
        line.send("plain")
        assert line.recv(timeout=5) == "plain"


def of_node_with_python_and_node(world):
    """npm's `ws` as a client."""
    ready(world)
    for to in ("talker", "node"):
        done = subprocess.run(["node", *world.node_script, "ask", url(world, to)], capture_output=True, text=True, timeout=60)
        told = json.loads(done.stdout)
        assert told["pieces"] == "one two three" and told["large"] and told["empty"] == "" and told["asked"].startswith("pong"), told
        assert told["protocol"] == "chat.v2" and "permessage-deflate" in told["extensions"] and told["pongs"] == ["between"], told
        assert told["close"] == [4321, "until later"], told


def over_tls(world):
    ready(world)
    terms = ssl.create_default_context()
    terms.check_hostname, terms.verify_mode = False, ssl.CERT_NONE
    with connect("wss://%s:%d/ws/talker" % world.secure, ssl=terms, server_hostname="world.test") as line:
        line.send("over TLS")
        assert line.recv(timeout=5) == "over TLS"


def closing(world):
    """§ 7.4: codes and reasons, both ways; and what is no code."""
    ready(world)
    for code in (1000, 1001, 1011, 3000, 4999):
        with opened(world) as line:
            line.send(f"close {code}")
            try:
                line.recv(timeout=5)
                raise AssertionError("no end")
            except ConnectionClosed as end:
                assert (end.rcvd.code, end.rcvd.reason) == (code, "until later"), end
        line = opened(world)
        line.close(code, "mine")
        soon(lambda: (code, "mine") in closes, f"the server sees {code}")


def soon(holds, what, seconds=10):
    until = time.time() + seconds
    while not holds():
        assert time.time() < until, what
        time.sleep(0.02)


def begun(world, to, **more):
    """After the handshake, by hand."""
    line = world.connect(**more)
    line.sendall(b"GET /ws/%s HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % to.encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = line.recv(1)
        assert byte, head
        head += byte
    assert head.startswith(b"HTTP/1.1 101 "), head
    return line, head


def one_of_the_protocols_that_were_asked_for_is_chosen(world):
    """RFC 9110 § 7.8: the client hears which, and not its own list; anything else is no answer. § 15.5.22: a 426 says what to ask for."""
    ready(world)
    for says, wanted in {
        b"101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n": b"101",
        b"101 Switching Protocols\r\nupgrade: WebSocket\r\nconnection: upgrade\r\n": b"101",
        b"101 Switching Protocols\r\nupgrade: h3\r\nconnection: upgrade\r\n": b"502",
        b"101 Switching Protocols\r\nupgrade: websocket, other\r\nconnection: upgrade\r\n": b"502",
        b"101 Switching Protocols\r\nupgrade: websocket\r\nupgrade: other\r\nconnection: upgrade\r\n": b"502",
        b"101 Switching Protocols\r\nupgrade: \r\nconnection: upgrade\r\n": b"502",
        b"101 Switching Protocols\r\nconnection: upgrade\r\n": b"502",
        b"426 Upgrade Required\r\nupgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 0\r\n": b"426",
    }.items():
        with world.connect(timeout=3) as line:
            target = (b"HTTP/1.1 " + says + b"\r\n").hex().encode()
            line.sendall(b"GET /ws/told?%s HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: other, websocket, \r\n\r\n" % target)
            head = b""
            while b"\r\n\r\n" not in head:
                head += line.recv(4096)
            head = head.partition(b"\r\n\r\n")[0].lower() + b"\r\n"
            assert head.startswith(b"http/1.1 " + wanted), (says, head)
            assert (b"\r\nupgrade: websocket\r\n" in head) == (wanted != b"502") and b"other" not in head, (says, head)


def frames_pass_untouched(world):
    """§ 5.1: a frame without a mask is the server's to refuse (1002), not the gateway's; § 4.1: the key is answered by the server."""
    ready(world)
    line, head = begun(world, "talker")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head, head
    with line:
        line.sendall(b"\x81\x02hi")
        said = rest(line)
        assert said[:1] == b"\x88" and struct.unpack("!H", said[2:4]) == (1002,), said
    # Masked, in frames of one byte, cut in the middle of its head.
    line, _ = begun(world, "talker")
    with line:
        mask = b"\x01\x02\x03\x04"
        frames = b"".join(bytes([(1 if n == 0 else 0) | (0x80 if n == 4 else 0), 0x81]) + mask + bytes([byte ^ 1]) for n, byte in enumerate(b"hello"))
        for byte in frames:
            line.sendall(bytes([byte]))
        heard = b""
        while len(heard) < 7:
            heard += line.recv(100)
        assert heard == b"\x81\x05hello", heard


def a_side_that_has_said_all(world):
    """Half-closed: the other side hears of it, and what it says then arrives."""
    ready(world)
    line, _ = begun(world, "half")
    with line:
        line.sendall(b"x" * 100_000)
        line.shutdown(socket.SHUT_WR)
        assert rest(line) == b"100000 bytes"


def a_server_that_dies(world):
    """The client hears of it at once, whatever it was doing."""
    ready(world)
    for to in ("talker", "node"):
        with opened(world, to) as line:
            line.send("die")
            began = time.time()
            try:
                line.recv(timeout=5)
                raise AssertionError("no end")
            except ConnectionClosed:
                assert time.time() - began < 2


def who_may_not(world):
    """A route that does not switch says so; a version nobody speaks is the server's to refuse."""
    ready(world)
    try:
        opened(world, "none")
        raise AssertionError("it switched")
    except InvalidStatus as why:
        assert why.response.status_code == 403 and b"upgrade_not_allowed" in why.response.body
    said = world.raw(b"GET /ws/talker HTTP/1.1\r\nhost: a\r\nconnection: Upgrade, close\r\nupgrade: websocket\r\nsec-websocket-version: 7\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", timeout=3)
    assert said[9:12] in (b"400", b"426"), said[:200]


def a_reader_that_is_slow(world):
    """Twenty floods that nobody reads: servers are held back, and the node holds little of each."""
    ready(world)
    before, lines = world.memory(), []
    flooded.clear()
    for _ in range(20):
        line, _ = begun(world, "talker")
        line.sendall(b"\x81\x85\0\0\0\0flood")
        lines.append(line)
    soon(still(lambda: len(flooded)), "the floods stand still", 30)
    assert sum(flooded) < 20 * (24 << 20), f"{sum(flooded) >> 20} MB were taken"
    assert world.memory() - before < 24, f"{world.memory() - before:.0f} MB"
    world.is_well()
    for line in lines:
        line.close()


def still(count):
    """True once the count stood still for a second."""
    seen = [count(), time.time()]

    def holds():
        if count() != seen[0]:
            seen[:] = [count(), time.time()]
        return time.time() - seen[1] > 1

    return holds


def fragments_without_end(world):
    """Millions of frames of one byte, to a server that reads and to one that does not: back-pressure bounds them, memory stays flat."""
    ready(world)
    frames = (b"\x00\x81\0\0\0\0x") * 10_000
    before = world.memory()
    for to, most in (("talker", 28 << 20), ("deaf", 64 << 20)):
        line, _ = begun(world, to, timeout=3)
        sent = 0
        with line:
            try:
                line.sendall(b"\x01\x81\0\0\0\0x")
                while sent < most:
                    line.sendall(frames)
                    sent += len(frames)
            except OSError:
                pass
            assert to == "talker" or sent < 32 << 20, f"{sent} bytes went to who does not read"
            world.is_well()
        for server in unheard:
            server.close()
        assert world.memory() - before < 16, f"{to}: {world.memory() - before:.0f} MB for {sent >> 20} MB of fragments"


class Extended:
    """A WebSocket over h2 (RFC 8441), by the h2 package; frames are the caller's."""

    def __init__(self, line, path, protocol="websocket", version="13"):
        self.line = line
        self.speaker = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, validate_outbound_headers=False))
        self.speaker.initiate_connection()
        self.heard, self.status, self.fields, self.ended, self.settings = b"", None, {}, False, None
        self.line.sendall(self.speaker.data_to_send())
        self.until(lambda: self.settings is not None)
        fields = [(":method", "CONNECT"), (":protocol", protocol), (":scheme", "http"), (":authority", "localhost"), (":path", path)]
        self.speaker.send_headers(1, [*fields, ("sec-websocket-version", version), ("sec-websocket-protocol", "chat.v2")])
        self.line.sendall(self.speaker.data_to_send())
        self.until(lambda: self.status is not None or self.ended)

    def until(self, holds):
        while not holds():
            data = self.line.recv(65536)
            assert data, "the connection ended"
            for one in self.speaker.receive_data(data):
                if isinstance(one, h2.events.RemoteSettingsChanged):
                    self.settings = {code: change.new_value for code, change in one.changed_settings.items()}
                elif isinstance(one, h2.events.ResponseReceived):
                    self.fields = {bytes(k).decode(): bytes(v).decode() for k, v in one.headers}
                    self.status = int(self.fields[":status"])
                elif isinstance(one, h2.events.DataReceived):
                    self.heard += one.data
                    self.speaker.acknowledge_received_data(one.flow_controlled_length, 1)
                elif isinstance(one, (h2.events.StreamEnded, h2.events.StreamReset)):
                    self.ended = True
            self.line.sendall(self.speaker.data_to_send())

    def send(self, data):
        while data:
            room = min(self.speaker.local_flow_control_window(1), self.speaker.max_outbound_frame_size)
            if room == 0:
                self.until(lambda: self.speaker.local_flow_control_window(1) > 0)
                continue
            self.speaker.send_data(1, data[:room])
            data = data[room:]
            self.line.sendall(self.speaker.data_to_send())


def over_h2(world):
    """RFC 8441: announced in SETTINGS, opened by extended CONNECT, and to the upstream a WebSocket like any other."""
    ready(world)
    for line in (world.connect(), secured(world, "h2")):
        with line:
            one = Extended(line, "/ws/talker")
            assert one.settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL) == 1, one.settings
            assert one.status == 200 and one.fields["sec-websocket-protocol"] == "chat.v2" and "sec-websocket-accept" not in one.fields, one.fields
            one.send(b"\x81\x85\0\0\0\0hello")
            one.until(lambda: len(one.heard) >= 7)
            assert one.heard == b"\x81\x05hello", one.heard
            large = os.urandom(1 << 20)
            one.heard = b""
            one.send(b"\x82\xff" + struct.pack("!Q", len(large)) + b"\0\0\0\0" + large)
            one.until(lambda: len(one.heard) >= len(large) + 10)
            assert one.heard[10:] == large
            one.send(b"\x88\x82\0\0\0\0" + struct.pack("!H", 1000))
            one.until(lambda: one.ended)
    for path, protocol, status in (("/ws/none", "websocket", 403), ("/ws/talker", "connect-udp", 405), ("/elsewhere", "websocket", 403)):
        with world.connect() as line:
            one = Extended(line, path, protocol)
            assert one.status == status, (path, one.fields)
    with world.connect() as line:
        assert Extended(line, "/ws/talker", version="7").status in (400, 426)


CASES = [
    of_python_with_python_and_node,
    of_node_with_python_and_node,
    over_tls,
    closing,
    one_of_the_protocols_that_were_asked_for_is_chosen,
    frames_pass_untouched,
    a_side_that_has_said_all,
    a_server_that_dies,
    who_may_not,
    a_reader_that_is_slow,
    fragments_without_end,
    over_h2,
]
