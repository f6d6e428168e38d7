"""An origin whose answers are written by hand, piece by piece, when a case says so."""

import json
import socket
import threading

from world import whole


class Request:
    def __init__(self, data):
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        self.method, self.target, _ = first.decode().split(" ", 2)
        self.fields = {name.strip().lower().decode(): value.strip().decode("latin-1") for name, value in (line.split(b":", 1) for line in lines)}
        self.body = dechunked(body) if self.fields.get("transfer-encoding") == "chunked" else body


class Origin:
    """`answers`: by the first part of the path, what to do with a request and the line it came by. Connections are kept."""

    def __init__(self, answers):
        self.answers, self.asked = answers, []
        self.server = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            line, _ = self.server.accept()
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(line,), daemon=True).start()

    def serve(self, line):
        waiting = b""
        try:
            while piece := line.recv(1 << 20):
                waiting += piece
                while (length := whole(waiting)) is not None:
                    request, waiting = Request(waiting[:length]), waiting[length:]
                    self.asked.append(request)
                    self.answers[request.target.strip("/").split("/")[-1].split("?")[0]](request, line)
        except OSError:
            pass
        finally:
            line.close()

    def upstream(self, name):
        return {"name": name, "endpoints": [{"url": f"http://127.0.0.1:{self.port}"}]}


def head(status=200, **fields):
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([f"HTTP/1.1 {status} Said", *lines, "", ""]).encode()


def chunk(data):
    return b"%x\r\n" % len(data) + data + b"\r\n"


def echo(request, line):
    """What came, as JSON."""
    told = json.dumps({"method": request.method, "fields": request.fields, "length": len(request.body), "body": request.body[:1000].decode("latin-1")}).encode()
    line.sendall(head(content_type="application/json", content_length=len(told)) + told)


def dechunked(data):
    body, at = b"", 0
    while True:
        size, _, _ = data[at:].partition(b"\r\n")
        at += len(size) + 2
        length = int(size.split(b";")[0], 16)
        if length == 0:
            return body
        body += data[at : at + length]
        at += length + 2


class Answer:
    """An answer as it came over a line that ended, or whose framing is all there."""

    def __init__(self, data):
        self.head, _, body = data.partition(b"\r\n\r\n")
        lines = self.head.split(b"\r\n")
        self.status = int(lines[0].split(b" ")[1])
        self.fields = {}
        for line in lines[1:]:
            name, value = line.split(b":", 1)
            name = name.lower().decode()
            self.fields[name] = ", ".join(filter(None, [self.fields.get(name), value.strip().decode()]))
        self.body = dechunked(body) if self.fields.get("transfer-encoding") == "chunked" and body else body

    def code(self):
        return json.loads(self.body)["error"]["code"]
