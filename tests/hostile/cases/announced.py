"""Upstreams that are told in the PROXY protocol whose a connection is: a real HAProxy, in clear and over TLS."""

import socket
import subprocess
import time

from certificates import authority, write

# What HAProxy takes for the client's address and port, and for the address the client came to.
SAYS = "http-request return status 200 content-type text/plain lf-string '%[src] %[src_port] %[dst_port]'"


def clients_are_told_to_a_real_haproxy(world):
    """proxy-protocol.txt §§ 2.1, 2.2: each version, before HTTP and before TLS; a kept connection is of one client."""
    ca, issue = authority()
    (world.folder / "inner-ca.pem").write_bytes(ca)
    write(world.folder, "inner", issue("inner.test"))
    both = world.folder / "inner-both.pem"
    both.write_bytes(b"".join((world.folder / f"inner.{end}").read_bytes() for end in ("pem", "key")))
    ports = free(3)
    config = world.folder / "haproxy.cfg"
    config.write_text(f"""
defaults
    mode http
    timeout client 20s
    timeout connect 5s
    timeout server 20s
frontend told
    bind 127.0.0.1:{ports[0]} accept-proxy
    {SAYS}
frontend secret
    bind 127.0.0.1:{ports[1]} accept-proxy ssl crt {both}
    {SAYS}
frontend plain
    bind 127.0.0.1:{ports[2]}
    {SAYS}
""")
    haproxy = subprocess.Popen(["haproxy", "-db", "-q", "-f", config], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        until_open(haproxy, ports)
        tls = {"ca": str(world.folder / "inner-ca.pem"), "server_name": "inner.test"}
        kinds = [("v1", 0, {"proxy_protocol": "v1"}), ("v2", 0, {"proxy_protocol": "v2"}),
                 ("v2-tls", 1, {"proxy_protocol": "v2", "tls": tls}), ("silent", 2, {})]
        scheme = lambda more: "https" if "tls" in more else "http"
        world.publish(
            upstreams=[{"name": name, "endpoints": [{"url": f"{scheme(more)}://127.0.0.1:{ports[port]}"}], **more} for name, port, more in kinds],
            routes=[{"name": name, "match": {"path": f"/{name}/*"}, "to": [{"upstream": name}]} for name, _, _ in kinds])
        for name in ("v1", "v2", "v2-tls"):
            with world.connect() as one, world.connect() as other:
                for line in (one, other, one, other, other):
                    here, there = line.getsockname(), line.getpeername()
                    assert asked(line, f"/{name}/x") == f"{here[0]} {here[1]} {there[1]}", name
        with world.connect() as line:
            told = asked(line, "/silent/x").split()
            assert int(told[1]) != line.getsockname()[1] and int(told[2]) == ports[2], told
    finally:
        haproxy.terminate()
        haproxy.wait(10)


def asked(line, path):
    line.sendall(f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
    heard = b""
    while b"\r\n\r\n" not in heard:
        heard += line.recv(65536)
    head, _, body = heard.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), heard
    length = next(int(field.split(b":")[1]) for field in head.lower().split(b"\r\n") if field.startswith(b"content-length:"))
    while len(body) < length:
        body += line.recv(65536)
    return body.decode()


def free(count):
    lines = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [line.getsockname()[1] for line in lines]
    for line in lines:
        line.close()
    return ports


def until_open(process, ports):
    end = time.time() + 10
    for port in ports:
        while True:
            assert process.poll() is None, process.stderr.read().decode()
            assert time.time() < end, "HAProxy does not listen"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)


CASES = [clients_are_told_to_a_real_haproxy]
