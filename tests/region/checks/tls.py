"""TLS on the inbound listener, as curl, OpenSSL and testssl.sh meet it."""

import datetime
import json
import os
import shutil
import ssl
import subprocess
import threading
from http.client import HTTPSConnection

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from .inbound import before, bearing
from .place import PATIENCE, until
from .workload import Workload, identity

# What testssl.sh says of a certificate that no public CA made, and of what HTTP alone can say, is not of our TLS.
NOT_OURS = ("cert_", "cert ", "HSTS", "DNS_CAArecord", "security_headers", "banner_", "HTTP_", "OCSP")


class Authority:
    """A CA of a check's own."""

    def __init__(self, folder):
        folder.mkdir()
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
        self.file = folder / "ca.pem"
        basics = (x509.BasicConstraints(ca=True, path_length=0), True)
        self.file.write_bytes(pem(self._sign(self.name, self.key.public_key(), basics)))

    def _sign(self, name, key, *extensions):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder(self.name, name, key, x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=90))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, folder, key=None, name="localhost"):
        """Certificate and key in a folder, as a mounted Secret has them; returns the serial number."""
        folder.mkdir()
        key = key or ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        certificate = self._sign(x509.Name([]), key.public_key(), (names, True))
        (folder / "tls.crt").write_bytes(pem(certificate))
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / "key.pem").write_bytes(key.private_bytes(*form))
        return certificate.serial_number


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


def speaking_tls(place, region, workload, name="regent", **config):
    """With the files behind a symbolic link that is swapped, as the kubelet does it."""
    mount = place.folder / "mount"
    tls = {"inbound.tls.cert_file": mount / "tls.crt", "inbound.tls.key_file": mount / "key.pem"}
    return before(place, region, workload.url, name, **tls, **config)


def mount(place, folder):
    beside = place.folder / "mount.new"
    beside.symlink_to(folder)
    beside.rename(place.folder / "mount")


def curl(authority, port, *arguments):
    """Status and body; a status of 0 is none."""
    command = ["curl", "-sS", "--cacert", authority.file, "-w", "\n%{http_code}", *arguments]
    command.append(f"https://localhost:{port}/api/whoami")
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=PATIENCE)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body or done.stderr


def openssl(authority, port, *arguments):
    command = ["openssl", "s_client", "-connect", f"localhost:{port}", "-CAfile", authority.file, *arguments]
    command += ["-verify_return_error", "-brief"]
    done = subprocess.run([str(word) for word in command], input="", capture_output=True, text=True, timeout=PATIENCE)
    return done.returncode == 0, done.stdout + done.stderr


def curl_and_openssl_speak_tls_with_the_inbound_listener(place):
    region, workload, authority = place.region(), Workload(place), Authority(place.folder / "ca")
    authority.issue(place.folder / "first")
    mount(place, place.folder / "first")
    regent = speaking_tls(place, region, workload).start()
    bearer = ("-H", f"Authorization: Bearer {region.login()['access']}")
    for version in ("--tlsv1.2", "--tlsv1.3"):
        status, body = curl(authority, regent.port, version, *bearer)
        assert status == 200, body
        assert identity(workload.only()["headers"])["x-regent-user"] == "alice"
    status, body = curl(authority, regent.port)
    assert (status, json.loads(body)["reason"]) == (401, "missing_token"), body
    # One that knows HTTP/2 too.
    status, body = curl(authority, regent.port, "--http2", *bearer)
    assert status == 200, body
    workload.only()
    for wanted in ("-tls1_2", "-tls1_3"):
        spoken, said = openssl(authority, regent.port, wanted, "-alpn", "h2,http/1.1")
        assert spoken and "http/1.1" in said or "Verification: OK" in said, said
    for refused in (("-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"), ("-tls1", "-cipher", "DEFAULT@SECLEVEL=0")):
        spoken, said = openssl(authority, regent.port, *refused)
        assert not spoken, said
    # And one that does not know that it is TLS.
    answer = regent.call()
    assert answer.status == 400 and "https://" in answer.body.decode(), answer
    workload.nothing()
    regent.stop()


def a_client_certificate_is_required_where_its_ca_is_named(place):
    region, workload = place.region(), Workload(place)
    authority, clients, strangers = (Authority(place.folder / name) for name in ("ca", "clients", "strangers"))
    authority.issue(place.folder / "first")
    mount(place, place.folder / "first")
    regent = speaking_tls(place, region, workload, **{"inbound.tls.client_ca_file": clients.file}).start()
    clients.issue(place.folder / "caller")
    strangers.issue(place.folder / "stranger")
    bearer = ("-H", f"Authorization: Bearer {region.login()['access']}")

    def own(name):
        return "--cert", place.folder / name / "tls.crt", "--key", place.folder / name / "key.pem"

    for version in ("--tls-max", "1.2"), ("--tls-max", "1.3"):
        status, body = curl(authority, regent.port, *version, *bearer, *own("caller"))
        assert status == 200, body
        workload.only()
        for without in ((), own("stranger")):
            status, body = curl(authority, regent.port, *version, *bearer, *without)
            assert status == 0, body
    # It stands beside the token, not for it.
    status, body = curl(authority, regent.port, *own("caller"))
    assert status == 401, body
    workload.nothing()
    regent.stop()


def certificates_are_swapped_under_load_without_a_failed_handshake(place):
    region, workload, authority = place.region(), Workload(place), Authority(place.folder / "ca")
    serials = [authority.issue(place.folder / f"issued-{number}") for number in range(4)]
    mount(place, place.folder / "issued-0")
    regent = speaking_tls(place, region, workload).start()
    headers = bearing(region.login()["access"])
    context = ssl.create_default_context(cafile=authority.file)
    seen, failed, count, over = set(), [], [0], threading.Event()

    def call():
        while not over.is_set():
            connection = HTTPSConnection("localhost", regent.port, context=context, timeout=PATIENCE)
            try:
                connection.connect()
                der = connection.sock.getpeercert(binary_form=True)
                seen.add(x509.load_der_x509_certificate(der).serial_number)
                connection.request("GET", "/api/whoami", headers=headers)
                response = connection.getresponse()
                assert response.status == 200 and response.read()
                count[0] += 1
            except Exception as error:
                failed.append(repr(error))
                return
            finally:
                connection.close()

    callers = [threading.Thread(target=call, daemon=True) for _ in range(4)]
    for caller in callers:
        caller.start()
    for number, serial in enumerate(serials):
        mount(place, place.folder / f"issued-{number}")
        until("the new certificate, or a failure", lambda serial=serial: failed or serial in seen)
    over.set()
    for caller in callers:
        caller.join()
    assert not failed, failed
    regent.stop()
    return f"{len(serials) - 1} certificates swapped under {count[0]} handshakes, none failed"


def testssl_finds_no_weakness(place):
    region, workload, authority = place.region(), Workload(place), Authority(place.folder / "ca")
    found = {}
    program = shutil.which("testssl") or shutil.which("testssl.sh")
    assert program, "testssl.sh is not installed"
    kinds = {"ec": ec.generate_private_key(ec.SECP256R1()), "rsa": rsa.generate_private_key(65537, 2048)}
    for kind, key in kinds.items():
        authority.issue(place.folder / kind, key)
        mount(place, place.folder / kind)
        regent = speaking_tls(place, region, workload, f"regent-{kind}").start()
        report = place.folder / f"{kind}.json"
        command = [program, "--quiet", "--color", "0", "--warnings", "batch", "--ip", "127.0.0.1", "--nodns", "none"]
        command += ["--add-ca", authority.file, "--jsonfile", report, f"localhost:{regent.port}"]
        environment = {"PATH": f"{os.environ['PATH']}:/usr/sbin", "HOME": str(place.folder), "TERM": "dumb"}
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=environment)
        findings = json.loads(report.read_text())
        names = {finding["id"] for finding in findings}
        for looked_at in ("SSLv3", "TLS1_2", "TLS1_3", "heartbleed", "ROBOT", "BEAST", "LUCKY13", "secure_renego"):
            assert looked_at in names, (looked_at, done.stdout[-3000:])
        bad = [
            finding
            for finding in findings
            if finding["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL") and not finding["id"].startswith(NOT_OURS)
        ]
        assert not bad, bad
        found[kind] = len(findings)
        regent.stop()
    return f"{found} findings, none above low"


CHECKS = [
    testssl_finds_no_weakness,
    certificates_are_swapped_under_load_without_a_failed_handshake,
    curl_and_openssl_speak_tls_with_the_inbound_listener,
    a_client_certificate_is_required_where_its_ca_is_named,
]
