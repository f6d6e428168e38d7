"""TLS as its examiners see it: testssl.sh (Debian) and sslyze (PyPI) against a node, and what no client may be given."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

from frames import beside, ended

# What testssl.sh finds and why it stays. Everything else above `INFO` fails.
STAYS = {
    "cert_trust": "the authority is this run's own",
    "cert_chain_of_trust": "the authority is this run's own",
    "cert_expirationStatus": "90 days, as ACME's authorities give",
    "cert_revocation": "the authority names neither a list nor a responder",
    "cert_mustStapleExtension": "a certificate's own business",
    "OCSP_stapling": "this document names no response (`certificates[].ocsp`; tests/tls.rs)",
    "DNS_CAArecord": "a name of this run alone has no records",
    "certificate_transparency": "the authority is this run's own",
    "HSTS": "for whom a route answers is the document's business (`response_headers`)",
    "security_headers": "as above",
    "banner_server": "the upstream's, or none",
    "BREACH": "the document compresses nothing",
    "LUCKY13": "asked of suites that are not offered",
}

# What it could not ask.
UNASKED = {
    ("WARN", "engine_problem"): "OpenSSL of this machine knows no GOST",
    ("WARN", "secure_renego"): "it asks with protocols that are not offered; a_handshake_cannot_be_begun_anew asks",
    ("WARN", "sessionresumption_ticket"): "its client may leave before a ticket of TLS 1.3 is there; tests/tls.rs resumes with tickets",
}


def testssl_finds_nothing(world):
    """Protocols, suites, forward secrecy, server defaults, preferences, vulnerabilities, of which BREACH asks for a page."""
    report = world.folder / "testssl.json"
    report.unlink(missing_ok=True)
    host, port = world.secure
    command = ["testssl", "--warnings", "off", "--color", "0", "--quiet", "--ip", host, "--nodns", "none", "--sneaky", "--add-ca", world.folder / "ca.pem",
               "--jsonfile", report, "--protocols", "--std", "--server-preference", "--server-defaults", "--vulnerable", f"world.test:{port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, stdin=subprocess.DEVNULL)
    assert report.exists(), done.stdout[-2000:] + done.stderr[-2000:]
    findings = json.loads(report.read_text())
    ids = {finding["id"]: finding for finding in findings}
    assert {"TLS1_2", "TLS1_3", "heartbleed", "ROBOT", "cipherlist_AVERAGE"} <= ids.keys(), sorted(ids)
    assert ids["TLS1_2"]["finding"].startswith("offered") and ids["TLS1_3"]["finding"].startswith("offered"), ids["TLS1_3"]
    bad = [finding for finding in findings if finding["severity"] not in ("OK", "INFO") and known(finding["id"]) not in STAYS
           and (finding["severity"], finding["id"]) not in UNASKED]
    assert not bad, "\n".join(f"{one['severity']} {one['id']}: {one['finding']}" for one in bad)


def known(name):
    """`cert_trust <cert#1>` is `cert_trust`."""
    return re.sub(r" ?<.*>$", "", name)


def sslyze_finds_nothing(world):
    """Scanned in full: no older protocol, no suite without forward secrecy and authentication, no hole with a name."""
    host, port = world.secure
    report = world.folder / "sslyze.json"
    command = [Path(sys.executable).parent / "sslyze", "--json_out", report, "--sni", "world.test", "--quiet", "--mozilla_config", "intermediate", "--early_data", f"{host}:{port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert report.exists(), done.stdout[-2000:] + done.stderr[-2000:]
    scanned = json.loads(report.read_text())["server_scan_results"][0]["scan_result"]
    result = {name: scan["result"] for name, scan in scanned.items() if scan and scan.get("result")}
    accepted = {name: [suite["cipher_suite"]["name"] for suite in result[f"{name}_cipher_suites"]["accepted_cipher_suites"]]
                for name in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2", "tls_1_3")}
    assert [name for name, suites in accepted.items() if suites] == ["tls_1_2", "tls_1_3"], accepted
    weak = [suite for suite in accepted["tls_1_2"] if not re.fullmatch(r"TLS_ECDHE_(ECDSA|RSA)_WITH_(AES_\d+_GCM_SHA\d+|CHACHA20_POLY1305_SHA256)", suite)]
    assert not weak, weak
    curves = {curve["name"] for curve in result["elliptic_curves"]["supported_curves"]}
    assert curves and curves <= {"X25519", "secp256r1", "secp384r1"}, curves
    assert not result["heartbleed"]["is_vulnerable_to_heartbleed"]
    assert not result["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"]
    assert result["robot"]["robot_result"] == "NOT_VULNERABLE_RSA_NOT_SUPPORTED", result["robot"]
    assert not result["tls_compression"]["supports_compression"]
    assert not result["tls_1_3_early_data"]["supports_early_data"]
    assert not result["session_renegotiation"]["is_vulnerable_to_client_renegotiation_dos"]
    assert result["tls_fallback_scsv"]["supports_fallback_scsv"] or not accepted["tls_1_1"]
    ems = result.get("tls_extended_master_secret")
    assert ems is None or ems["supports_ems_extension"], ems
    # That sessions resume is seen in tests/tls.rs: sslyze takes a ticket that is renewed at each resumption for one that was refused.


def what_is_no_handshake_ends_at_once(world):
    """RFC 8446 § 6: an alert or nothing, and the connection is closed: clear text, SSL 2 and 3, a record that lies, a hello of nothing."""
    for first in (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes(64), b"\x80\x2e\x01\x00\x02" + bytes(41),
                  b"\x16\x03\x00\x00\x04\x01\x00\x00\x00", b"\x16\x03\x01\xff\xff" + bytes(200), b"\x16\x03\x01\x00\x04\x01\xff\xff\xff" + bytes(70_000),
                  b"\x15\x03\x03\x00\x02\x02\x28", b"\x17\x03\x03\x00\x10" + bytes(16), b"\x14\x03\x03\x00\x01\x01" * 40):
        with world.connect(5, to=world.secure) as line:
            try:
                line.sendall(first)
                heard = b""
                while piece := line.recv(4096):
                    heard += piece
            except ConnectionError:
                pass
            except TimeoutError:
                # A record that is said to be longer than what came is waited for, as long as a handshake may take.
                assert first[:5] == b"\x16\x03\x01\xff\xff" or first[:3] == b"\x16\x03\x01", first[:20]
            assert heard == b"" or heard[0] == 0x15, heard[:40]
        world.is_well()


def a_handshake_cannot_be_begun_anew(world):
    """CVE-2011-1473: renegotiation in TLS 1.2 is refused, and costs the client its connection."""
    host, port = world.secure
    command = ["openssl", "s_client", "-tls1_2", "-connect", f"{host}:{port}", "-servername", "world.test", "-CAfile", world.folder / "ca.pem"]
    done = subprocess.run(command, input=b"R\n", capture_output=True, timeout=30)
    said = (done.stdout + done.stderr).decode()
    assert "RENEGOTIATING" in said and ("no renegotiation" in said or "alert" in said or "unexpected" in said), said[-800:]


def half_a_handshake_is_waited_for_in_bounds(world):
    """Slowloris in TLS: hellos that never end hold neither memory nor descriptors for longer than ten seconds, and are counted."""
    counted = ended(world).get("handshake_timeout", 0)
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40)
    half = [world.connect(to=world.secure) for _ in range(100)]
    for line in half:
        line.sendall(hello)
    began = time.time()
    with beside(world):
        while time.time() < began + 20 and ended(world).get("handshake_timeout", 0) < counted + 100:
            time.sleep(0.25)
    took = time.time() - began
    assert ended(world).get("handshake_timeout", 0) >= counted + 100 and took < 15, (took, ended(world))
    assert world.holds(half) == 0
    for line in half:
        line.close()


CASES = [testssl_finds_nothing, sslyze_finds_nothing, what_is_no_handshake_ends_at_once, a_handshake_cannot_be_begun_anew,
         half_a_handshake_is_waited_for_in_bounds]
