"""Spellings of paths against rules: what the rules leave open never gets a protected path served.

Two back ends that read paths differently: nginx, and Django behind waitress (see `backend`). The rules
open /public and /healthz; each back end says whether that is what it served.
"""

import os
import random
import shutil
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

from .jose.parties import Party, new_rsa, public
from .place import HERE, accepts, until

SPELLINGS = 20_000
NGINX = """
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/www;
        location / {{ add_header X-Served protected always; }}
        location ~ ^/(public|healthz)(/|$) {{ add_header X-Served open always; }}
    }}
}}
"""


def nginx(place):
    folder, port = place.folder / "files", place.port()
    for name in ("public", "healthz", "admin"):
        (folder / "www" / name).mkdir(parents=True)
        (folder / "www" / name / "index.html").write_text(f"{name}\n")
        (folder / "www" / name / "x").write_text(f"{name}\n")
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    binary = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert binary, "nginx is not installed"
    command = [binary, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log", "-g", "daemon off;"]
    return started(place, command, port)


def django(place):
    port = place.port()
    return started(place, [sys.executable, "-m", "backend", port], port)


def started(place, command, port):
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    log = place.folder / "backend.log"
    process = place.spawn(command, environment, log, cwd=HERE)
    until(f"the back end on port {port}", lambda: process.poll() is not None or accepts(port))
    assert process.poll() is None, log.read_text()
    return port


class Kept:
    """One kept connection that sends targets as they are, which no HTTP library does."""

    def __init__(self, port, *headers):
        self._port = port
        self._rest = b"".join(header.encode() + b"\r\n" for header in ("Host: localhost", *headers)) + b"\r\n"
        self._stream = None

    def get(self, target):
        """The status and what was served, `None` where nobody says."""
        try:
            return self._ask(target)
        except (OSError, EOFError):
            # The connection may have ended after the answer before.
            self.close()
            return self._ask(target)

    def _ask(self, target):
        if not self._stream:
            connection = socket.create_connection(("127.0.0.1", self._port), timeout=90)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._stream = connection.makefile("rwb")
            connection.close()
        self._stream.write(b"GET " + target + b" HTTP/1.1\r\n" + self._rest)
        self._stream.flush()
        line = self._stream.readline()
        if not line:
            raise EOFError
        status, fields = int(line.split()[1]), {}
        while (line := self._stream.readline().strip()) != b"":
            name, value = line.split(b":", 1)
            fields[name.lower()] = value.strip()
        if b"content-length" in fields:
            self._stream.read(int(fields[b"content-length"]))
        if b"content-length" not in fields or fields.get(b"connection", b"").lower() == b"close":
            self.close()
        return status, fields.get(b"x-served", b"").decode() or None

    def close(self):
        if self._stream:
            try:
                self._stream.close()
            except OSError:
                pass
            self._stream = None


class Spellings:
    """Paths from an open place to a protected one, in the ways in which paths are written."""

    SEGMENTS = (b"", *b"public healthz admin x index.html publicity PUBLIC Admin ...".split())
    UPS = (
        b". ..; ..;x=1 .; ; ;x ..%3b ..%00 ..%20 ..%09 ... %c0%ae%c0%ae %e0%80%ae%e0%80%ae %u002e%u002e"
        b" \xc0\xae\xc0\xae \xef\xbc\x8e\xef\xbc\x8e %ef%bc%8e%ef%bc%8e"
    ).split()
    SLASHES = b"// /./ /.// \\ /\\ %2f %2F %5c %5C %252f %c0%af %u2215 ;/ /;/ %ef%bc%8f".split()
    TAILS = (
        b"? ?/../admin ?x=/public/ # #/public %23/public %3f/public ; / /. /.. %20 %00 %0d%0a . %2e %2e%2e ~ %7f * %"
    ).split()
    STARTS = (b"", *b"// /\\ \\ /./ /%2f /%2e/ /;/ http://localhost/ http://localhost// HTTP://LOCALHOST/".split())

    def __init__(self, seed):
        self._random = random.Random(seed)

    def next(self):
        pick = self._random.choice
        # How odd it may be: most paths with two oddities are refused for the first.
        oddity = pick((0.05, 0.2, 0.2, 0.7))

        def often(plain, odd):
            return pick(odd) if self._random.random() < oddity else plain

        path = often(b"/", self.STARTS) + self._encoded(often(pick((b"public", b"healthz")), self.SEGMENTS))
        for _ in range(self._random.randrange(5)):
            name = pick((b"x", b"admin", b"public", b"index.html", b"..", b".."))
            segment = often(name, (*self.SEGMENTS, *self.UPS))
            path += often(b"/", self.SLASHES) + self._encoded(segment)
        return path + often(b"", self.TAILS)

    def _encoded(self, text):
        """Some of its letters in escapes, of either case, once or twice."""
        rate = self._random.choice((0, 0, 0, 0, 0, 0.3, 1))
        twice = self._random.random() < 0.1
        out = b""
        for byte in text:
            if byte == ord("%") or self._random.random() >= rate:
                out += bytes([byte])
                continue
            escape = f"%{byte:02{self._random.choice('xX')}}"
            out += (escape.replace("%", "%25") if twice else escape).encode()
        return out


def no_spelling_of_a_path_gets_more_than_the_rules_leave_open(place):
    seed = int(os.environ.get("REGENT_SEED", random.randrange(2**32)))
    spellings = Spellings(seed)
    targets = [spellings.next() for _ in range(SPELLINGS)]
    party = Party("home", "iss.home.test", "RS256", new_rsa())
    pem = place.folder / "home.pem"
    pem.write_bytes(public(party.key))
    (place.folder / "issued").write_text(token := party.token())
    rules = [{"path": path, "anonymous": True} for path in ("/public", "/healthz")]
    told = []
    for name, backend in (("nginx", nginx(place)), ("django", django(place))):
        config = {
            "inbound.upstream": f"http://127.0.0.1:{backend}",
            "inbound.issuers.home.issuer": party.iss,
            "inbound.issuers.home.public_key_file": pem,
            "inbound.rules": rules,
            # A line for each of these would be all that the canaries read.
            "log.level": "info",
        }
        regent = place.regent(name, **config, environment={"RUST_LOG": "info"}).start()

        def ask(some, port, *headers):
            kept = Kept(port, *headers)
            answers = [(target, *kept.get(target)) for target in some]
            kept.close()
            return answers

        def all_of(some, port, *headers):
            with ThreadPoolExecutor(4) as pool:
                parts = pool.map(lambda part: ask(part, port, *headers), [some[at::4] for at in range(4)])
                return [answer for part in parts for answer in part]

        answers = all_of(targets, regent.port)
        wrong = [one for one in answers if one[1] not in (400, 401) and one[2] != "open"]
        assert not wrong, f"seed {seed}, {name}: {len(wrong)} of {len(answers)}, first {wrong[:10]}"
        served = sum(1 for _, _, what in answers if what == "open")
        refused = {status: sum(1 for one in answers if one[1] == status) for status in (400, 401)}
        assert min(served, *refused.values()) > SPELLINGS // 50, f"seed {seed}: nothing is shown by {served}, {refused}"
        # Without a sidecar these spellings do reach what is protected, from a path that looks open.
        direct = all_of(targets, backend)
        bites = sum(
            1 for path, _, what in direct if path.startswith((b"/public/", b"/healthz/")) and what == "protected"
        )
        assert bites > 50, f"seed {seed}: only {bites} spellings mislead {name}"
        # And with a token the protected is served.
        allowed = all_of(targets[:1000], regent.port, f"Authorization: Bearer {token}")
        assert sum(1 for one in allowed if one[2] == "protected") > 20, f"seed {seed}: {allowed[:20]}"
        assert not [one for one in allowed if one[1] == 401], f"seed {seed}: {allowed[:20]}"
        regent.stop()
        told.append(
            f"{name}: {served} open, {refused[400]} ambiguous, {refused[401]} without a token, {bites} would mislead"
        )
    return f"seed {seed}; " + "; ".join(told)


CHECKS = [no_spelling_of_a_path_gets_more_than_the_rules_leave_open]
