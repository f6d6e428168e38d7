"""A node between hostile clients and backends that keep every byte they get."""

import json
import os
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

from certificates import authority, write

DOCUMENT = {
    "version": 1,
    "routes": [
        {"name": "odd", "match": {"path": "/odd/*"}, "to": [{"upstream": "odd"}]},
        {"name": "hints", "match": {"path": "/hints/*"}, "to": [{"upstream": "odd"}], "early_hints": True},
        {"name": "small", "match": {"path": "/small/*"}, "max_body": "256KiB", "to": [{"upstream": "plain"}]},
        {"name": "all", "match": {"path": "/*"}, "to": [{"upstream": "plain"}]},
    ],
}


class World:
    """`plain` answers everything with 200 and its own count; `odd` says what a case puts into `odd.script`."""

    def __init__(self, binary, folder):
        self.binary, folder = str(Path(binary).resolve()), Path(folder)
        ready, at = folder / "ready", "127.0.0.1:0"
        command = [self.binary, "serve", "--data", folder / "data", "--http", at, "--https", at, "--admin", at, "--peer", at, "--ready-file", ready]
        self.log = folder / "node.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        until = time.time() + 60
        while not ready.exists() or not ready.read_text().strip():
            assert time.time() < until and self.process.poll() is None, f"the node does not start:\n{self.log.read_text()}"
            time.sleep(0.02)
        place = json.loads(ready.read_text())
        self.address, self.secure = both(place["http"]), both(place["https"])
        self.admin = place["admin"]
        self.env = {**os.environ, "TIDEGATE_ADMIN": f"http://{place['admin']}", "TIDEGATE_TOKEN": (folder / "data/admin.token").read_text().strip()}
        self.plain, self.odd = Backend(), Backend()
        backends = (("plain", self.plain), ("odd", self.odd))
        upstreams = [{"name": name, "endpoints": [{"url": f"http://127.0.0.1:{one.port}"}]} for name, one in backends]
        self.ca, self.issue = authority()
        (folder / "ca.pem").write_bytes(self.ca)
        write(folder, "world", self.issue("world.test"))
        shown = {"name": "world", "hosts": ["world.test"], "file": str(folder / "world.pem"), "key": str(folder / "world.key")}
        self.document, self.folder = {**DOCUMENT, "upstreams": upstreams, "certificates": [shown]}, folder
        self.publish()

    def publish(self, **more):
        """What a case needs beside the document that all have; it stays."""
        wanted = {**self.document, **{name: [*self.document.get(name, []), *items] for name, items in more.items()}}
        file = self.folder / "document.json"
        file.write_text(json.dumps(wanted))
        done = subprocess.run([self.binary, "apply", str(file), "--wait"], env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        self.document = wanted

    def speaks_http3(self):
        """From the first case on that asks for it."""
        if "listeners" not in self.document:
            self.document["listeners"] = {"http3": {}}
            self.publish()
            told = "speaking HTTP/3"
            until = time.time() + 10
            while told not in self.log.read_text():
                assert time.time() < until, "the UDP port is not opened"
                time.sleep(0.02)

    def connect(self, timeout=10, receive=None, to=None):
        """`receive`: the size of the socket's buffer."""
        line = socket.socket()
        if receive is not None:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        line.settimeout(timeout)
        line.connect(to or self.address)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return line

    def raw(self, data, timeout=10):
        """All that comes back for these bytes until the connection ends, or `timeout` seconds bring nothing."""
        with self.connect(timeout) as line:
            try:
                line.sendall(data)
            except OSError:
                pass  # It answered before it had read all.
            return rest(line)

    def is_well(self):
        """Somebody else is served at once."""
        began = time.time()
        said = self.raw(b"GET /well HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 200 "), said
        assert time.time() - began < 2, f"took {time.time() - began:.1f} s"

    def memory(self):
        """MB resident."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def holds(self, lines):
        """How many of these connections it has accepted and not closed. Those that wait to be accepted, and those that it has closed while the
        kernel still ends them, belong to no process: their inode is 0 (proc_pid_net(5))."""
        ports = {line.getsockname()[1] for line in lines}
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        here = {self.address[1], self.secure[1]}
        return sum(int(row[1][-4:], 16) in here and int(row[2][-4:], 16) in ports and row[9] != "0" for row in rows)

    def cpu(self):
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metrics(self):
        host, port = self.admin.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=10) as line:
            line.sendall(f"GET /metrics HTTP/1.1\r\nhost: {self.admin}\r\nconnection: close\r\n\r\n".encode())
            return rest(line).decode()

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


class OverTls:
    """The same world for clients that speak h2 over TLS."""

    def __init__(self, world):
        self.world, self.context = world, ssl.create_default_context(cadata=world.ca.decode())
        self.context.set_alpn_protocols(["h2"])

    def __getattr__(self, name):
        return getattr(self.world, name)

    def connect(self, timeout=10, receive=None):
        line = self.world.connect(timeout, receive, self.world.secure)
        return self.context.wrap_socket(line, server_hostname="world.test")


def both(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


def rest(line):
    """Until the peer ends it, or says nothing for as long as the socket waits. A reset is an end too."""
    heard = b""
    try:
        while piece := line.recv(65536):
            heard += piece
    except (ConnectionError, TimeoutError):
        pass
    return heard


class Backend:
    """HTTP/1.1 by hand: each connection's bytes are kept in `heard` as they came. `script`: bytes to say to every request, after
    which the connection ends."""

    def __init__(self):
        self.heard, self.script, self.requests = [], None, 0
        self.server = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            line, _ = self.server.accept()
            threading.Thread(target=self.serve, args=(line,), daemon=True).start()

    def serve(self, line):
        kept = bytearray()
        self.heard.append(kept)
        waiting = b""
        try:
            while piece := line.recv(65536):
                kept += piece
                waiting += piece
                while (length := whole(waiting)) is not None:
                    waiting = waiting[length:]
                    self.requests += 1
                    if self.script is not None:
                        line.sendall(self.script)
                        line.close()
                        return
                    line.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        except OSError:
            pass

    def all(self):
        """Everything it got, connection by connection."""
        return [bytes(kept) for kept in self.heard if kept]

    def forget(self):
        """Connections that are kept go on."""
        for kept in self.heard:
            kept.clear()
        self.requests, self.script = 0, None


def whole(data):
    """Bytes of the first request in there, if it is complete. Strict: what Tidegate forwards needs no leniency."""
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return None
    fields = [line.split(b":", 1) for line in head.split(b"\r\n")[1:]]
    fields = {name.lower(): value.strip() for name, value in fields}
    if fields.get(b"transfer-encoding") == b"chunked":
        at = 0
        while True:
            size, found, _ = body[at:].partition(b"\r\n")
            if not found:
                return None
            at += len(size) + 2
            if int(size, 16) == 0:
                end = body.find(b"\r\n\r\n", at - 2)
                return None if end < 0 else len(head) + 4 + end + 4
            at += int(size, 16) + 2
    length = int(fields.get(b"content-length", b"0"))
    return len(head) + 4 + length if len(body) >= length else None
