"""`[inbound.forward_auth]` behind the proxies that ask it: real nginx and Envoy, and what Traefik does.

nginx and Envoy run with the examples in config/, with other ports. Each request goes through them and
through Regent's own proxy: the decision is the same, and so is what the workload is told of the caller.
"""

import http.client
import json
import re
import shutil
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from os import environ
from pathlib import Path

from . import http as calls
from .inbound import bearing
from .jose.parties import Party, new_rsa, public
from .place import HERE, accepts, until
from .workload import Workload, identity

EXAMPLES = HERE.parent.parent / "config"
NGINX = """
worker_processes 1;
master_process off;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/forward-auth.nginx.conf;
}}
"""


def example(kind, front, workload, verify):
    """The example's text, with these ports in the place of its own."""
    text = (EXAMPLES / f"forward-auth.{kind}").read_text()
    for old, new in (("8000", front), ("8001", workload), ("8082", verify)):
        assert re.search(rf"\b{old}\b", text) or (kind.startswith("traefik") and old == "8000"), f"{old} in {kind}"
        text = re.sub(rf"\b{old}\b", str(new), text)
    return text


@dataclass
class Front:
    """A proxy that asks, and what becomes of a refusal of Regent's on its way."""

    name: str
    port: int
    # nginx knows 401 and 403; what Envoy gets beyond 499 it takes for a fault, with a status of its own.
    unavailable: int
    hands_back_the_answer: bool


def started(place, name, command, port, **more):
    log = place.folder / f"{name}.log"
    process = place.spawn(command, {"PATH": environ["PATH"]} | more, log)
    until(f"{name} on port {port}", lambda: process.poll() is not None or accepts(port))
    assert process.poll() is None, log.read_text()


def nginx(place, workload, verify, name="nginx", change=lambda text: text):
    folder, port = place.folder / name, place.port()
    folder.mkdir()
    (folder / "forward-auth.nginx.conf").write_text(change(example("nginx.conf", port, workload, verify)))
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
    binary = shutil.which("nginx", path=f"{environ['PATH']}:/usr/sbin")
    assert binary, "nginx is not installed"
    command = [binary, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log", "-g", "daemon off;"]
    started(place, name, command, port)
    return Front(name, port, unavailable=500, hands_back_the_answer=False)


def envoy(place, workload, verify):
    port = place.port()
    config = place.folder / "forward-auth.envoy.yaml"
    config.write_text(example("envoy.yaml", port, workload, verify))
    binary = Path(sys.executable).with_name("envoy")
    command = [binary, "-c", config, "--use-dynamic-base-id", "--concurrency", 1, "--log-level", "warn"]
    started(place, "envoy", command, port)
    return Front("envoy", port, unavailable=503, hands_back_the_answer=True)


# Those that Traefik keeps for one hop.
HOP = {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers", "transfer-encoding"}


def traefik(place, workload, verify):
    """What Traefik's ForwardAuth does with the example: asks with the headers that are named, and with
    what was asked for; hands back what is no 2xx; else puts what matches in the answer in the place of
    all that matches in the request."""
    text, port = example("traefik.yaml", "none", workload, verify), place.port()

    def setting(name):
        return re.search(rf"^ +{name}: (.*)$", text, re.MULTILINE)[1]

    assert setting("address") == f"http://127.0.0.1:{verify}/verify" and setting("trustForwardHeader") == "false"
    sent = [name.lower() for name in setting("authRequestHeaders").strip("[]").split(", ")]
    taken = re.compile(setting("authResponseHeadersRegex").strip('"'))
    assert setting("Authorization") == '""' and setting("middlewares") == "[regent, no-token]"

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def serve(self):
            # `path` has its first slashes merged.
            target = self.requestline.split(" ")[1]
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = [(name, value) for name, value in self.headers.items() if name.lower() not in HOP]
            asked = [(name, value) for name, value in headers if name.lower() in sent]
            asked += [
                ("X-Forwarded-For", "127.0.0.1"),
                ("X-Forwarded-Method", self.command),
                ("X-Forwarded-Proto", "http"),
                ("X-Forwarded-Host", self.headers["host"]),
                ("X-Forwarded-Uri", target),
            ]
            answer = self.exchange(verify, "GET", "/verify", [("Host", f"127.0.0.1:{verify}"), *asked], b"")
            if 200 <= answer.status < 300:
                headers = [(name, value) for name, value in headers if not taken.search(name)]
                headers += [(name, value) for name, value in answer.getheaders() if taken.search(name)]
                headers = [(name, value) for name, value in headers if name.lower() != "authorization"]
                answer = self.exchange(workload, self.command, target, headers, body)
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.content)

        def exchange(self, port, method, target, headers, body):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=90)
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            answer.content = answer.read()
            connection.close()
            return answer

        do_GET = do_POST = do_PUT = do_DELETE = do_TRACE = serve

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Proxy)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return Front("traefik", port, unavailable=503, hands_back_the_answer=True)


@dataclass
class Case:
    target: str
    # Who calls, as the workload is told; or why not.
    outcome: dict | str
    token: str | None = None
    headers: tuple = ()
    method: str = "GET"
    body: bytes = b""
    # What refuses it by itself, without asking.
    by_itself: tuple = ()

    def ask(self, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=90)
        connection.putrequest(self.method, self.target)
        for name, value in (*bearing(self.token).items(), *self.headers) if self.token else self.headers:
            connection.putheader(name, value)
        if self.body:
            connection.putheader("content-length", str(len(self.body)))
        connection.endheaders(self.body or None)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        names = {name.lower(): value for name, value in response.getheaders()}
        return calls.Answer(response.status, names, content, 0, 0)

    def __str__(self):
        return re.sub(r"eyJ[\w.-]+", "TOKEN", f"{self.method} {self.target} {self.headers} {self.token}")


def cases(home, east, far, attacker):
    alice = {"x-regent-user": "alice", "x-regent-user-id": "7", "x-regent-issuer": "home"}
    nobody = {}
    user, admin = home.token(), home.token(claims={"role": "admin"})
    forged = home.token(key=attacker)
    user_id = {"x-regent-user": "east:alice", "x-regent-user-id": "east:7", "x-regent-issuer": "east"}
    public = (("X-Original-URI", "/public"), ("X-Original-URL", "/public"), ("X-Original-Method", "GET"))
    forwarded = (("X-Forwarded-Uri", "/public"), ("X-Forwarded-Method", "GET"))
    posing = (("X-Regent-User", "root"), ("X-Regent-User-Id", "0"), ("X-Regent-Issuer", "home"))
    alike = tuple((name.replace("-", mark), value) for name, value in posing for mark in "_.~")
    grpc = (("content-type", "application/grpc"), ("te", "trailers"))

    def authorization(*values):
        return tuple(("Authorization", value) for value in values)

    return [
        # Tokens.
        Case("/orders", "missing_token"),
        Case("/orders/7?x=1", alice, user),
        Case("/orders", "expired", home.token(claims={"iat": 1_000_000, "exp": 1_000_300})),
        Case("/orders", "bad_signature", forged),
        Case("/orders", "wrong_token_type", home.token(claims={"token_type": "refresh"})),
        Case("/orders", "unknown_issuer", home.token(claims={"iss": "iss.nobody.test"})),
        Case("/orders", "malformed_token", "no.token"),
        Case("/orders", user_id, east.token(claims={"aud": "orders"})),
        Case("/orders", "wrong_audience", east.token(claims={"aud": "stock"})),
        Case("/orders", "issuer_keys_unavailable", far.token()),
        Case("/orders", "unsupported_scheme", headers=authorization("Basic dTpw")),
        Case("/orders", "multiple_tokens", headers=authorization(f"Bearer {user}", f"Bearer {user}"), by_itself=("nginx",)),
        Case("/orders", "multiple_tokens", user, authorization(f"Bearer {forged}"), by_itself=("nginx",)),
        Case("/orders", "multiple_tokens", headers=authorization(f"Bearer {user}, Bearer {user}")),
        # Rules.
        Case("/public/x", nobody),
        Case("/public/x", alice, user),
        Case("/public/x", "bad_signature", forged),
        Case("/healthz", nobody),
        Case("/healthz", "missing_token", method="POST"),
        Case("/admin/x", "missing_token"),
        Case("/admin/x", "claims_not_met", user),
        Case("/admin/x?y=1", alice, admin),
        Case("/%61dmin", "claims_not_met", user),
        Case("/things/7", alice, user),
        Case("/things/7", "claims_not_met", user, method="DELETE"),
        Case("/things/7", alice, admin, method="DELETE"),
        Case("/verify/public", "missing_token"),
        # Paths that can be read as others.
        Case("/public/../admin", "ambiguous_path", user),
        Case("/public/%2e%2e/admin", "ambiguous_path"),
        Case("/public%2f..%2fadmin", "ambiguous_path", user),
        Case("/public/..;/admin", "ambiguous_path"),
        Case("/healthz;x", "ambiguous_path"),
        Case("/public\\..\\admin", "ambiguous_path"),
        Case("/orders//7", "ambiguous_path", user),
        Case("//public/x", "ambiguous_path"),
        Case("/public#/../admin", "ambiguous_path", by_itself=("envoy",)),
        Case("/admin?/public", "missing_token"),
        Case("/public?x=../admin//", nobody),
        # What callers say of themselves, and of what they ask for.
        Case("/orders", alice, user, posing),
        Case("/orders", alice, user, posing + alike),
        Case("/public", nobody, None, posing + alike),
        Case("/orders", alice, user, (("Connection", "x-regent-user, x-regent-issuer"), *posing)),
        Case("/orders", "missing_token", None, public + forwarded),
        Case("/admin", "claims_not_met", user, public + forwarded),
        Case("/healthz", "missing_token", None, public + forwarded, "POST"),
        Case("/orders", alice, user, public + forwarded),
        Case("/orders", alice, user, (("Connection", "x-original-uri, x-forwarded-uri"), *public)),
        # Bodies and other kinds of requests.
        Case("/orders", alice, user, method="POST", body=b"x" * 100_000),
        Case("/orders", "missing_token", method="POST", body=b"a body"),
        Case("/public", "method_not_allowed", user, method="TRACE", by_itself=("nginx",)),
        Case("/pkg.Users/Get", "missing_token", None, grpc, "POST", b"\0\0\0\0\0"),
    ]


STATUS = {"claims_not_met": 403, "issuer_keys_unavailable": 503}


def expected_status(case, front):
    """Of a refusal, as the caller gets it."""
    if case.outcome == "issuer_keys_unavailable":
        return front.unavailable
    if case.outcome in ("multiple_tokens", "ambiguous_path", "method_not_allowed"):
        return 403
    return STATUS.get(case.outcome, 401)


def outcome(case, port, regent, workload):
    """What came of it: the answer, and who calls or why not."""
    before = regent.metrics("regent_refused_total")
    answer = case.ask(port)
    after = regent.metrics("regent_refused_total")
    moved = {labels: n - before.get(labels, 0) for labels, n in after.items() if n != before.get(labels)}
    if not workload.seen:
        assert len(moved) <= 1 and set(moved.values()) <= {1}, moved
        found = [re.fullmatch('side="inbound",reason="(.*)",enforced="true"', labels)[1] for labels in moved]
        return answer, found[0] if found else None
    assert answer.status == 200 and not moved, f"{answer} {moved}"
    seen = workload.only()
    assert (seen["method"], seen["path"], seen["body"]) == (case.method, case.target, case.body), seen
    names = [name for name, _ in seen["headers"]]
    assert "authorization" not in names, names
    alike = [name for name in names if re.match("x[^a-z0-9]regent", name) and not name.startswith("x-regent-")]
    assert not alike, alike
    return answer, identity(seen["headers"])


def wrong(case, front, told, regent, workload):
    """What is not as on Regent's own way, where the answer was `told`."""
    answer, came = outcome(case, front.port, regent, workload)
    if front.name in case.by_itself:
        return f"was asked: {came}" if came or answer.status < 400 else None
    if came != case.outcome:
        return f"{came}, {answer}"
    if came == answer.reason is None or isinstance(came, dict) or "grpc-status" in told.headers:
        return None
    if answer.status != expected_status(case, front):
        return f"expected {expected_status(case, front)}: {answer}"
    if answer.status == 401 and answer.headers.get("www-authenticate") != told.headers["www-authenticate"]:
        return f"expected {told.headers['www-authenticate']}: {answer}"
    if front.hands_back_the_answer and answer.status < 500 and answer.reason != came:
        return f"the reason did not come back: {answer}"
    return None


def nginx_envoy_and_traefik_decide_as_regent_s_own_proxy_does(place):
    attacker = new_rsa()
    home = Party("home", "iss.home.test", "RS256", new_rsa())
    east = Party("east", "iss.east.test", "RS256", new_rsa())
    far = Party("far", "iss.far.test", "RS256", new_rsa())
    for party in (home, east):
        (place.folder / f"{party.name}.pem").write_bytes(public(party.key))
    workload = Workload(place)
    verify = place.port()
    config = {
        "inbound.upstream": workload.url,
        "inbound.forward_auth.listen": f"127.0.0.1:{verify}",
        "inbound.issuers.home.issuer": home.iss,
        "inbound.issuers.home.public_key_file": place.folder / "home.pem",
        "inbound.issuers.east.issuer": east.iss,
        "inbound.issuers.east.public_key_file": place.folder / "east.pem",
        "inbound.issuers.east.audiences": ["orders"],
        "inbound.issuers.far.issuer": far.iss,
        "inbound.issuers.far.jwks_url": f"http://127.0.0.1:{place.port()}/keys",
        "inbound.rules": [
            {"path": "/public", "anonymous": True},
            {"path": "/healthz", "methods": ["GET"], "anonymous": True},
            {"path": "/admin", "claims": {"role": ["admin"]}},
            {"path": "/things", "methods": ["DELETE"], "claims": {"role": ["admin"]}},
        ],
        "log.access": True,
    }
    regent = place.regent(**config).start()
    fronts = [start(place, workload.port, verify) for start in (nginx, envoy, traefik)]
    table = cases(home, east, far, attacker)
    (place.folder / "issued").write_text("\n".join(case.token for case in table if case.token) + "\n")
    failures = []
    # The second time from the cache.
    for case in [*table, *table]:
        told, came = outcome(case, regent.port, regent, workload)
        if came != case.outcome:
            failures.append(f"regent, {case}: {came}, {told}")
            continue
        for front in fronts:
            try:
                trouble = wrong(case, front, told, regent, workload)
            except AssertionError as error:
                trouble = f"{error}"
                workload.seen.clear()
            if trouble:
                failures.append(f"{front.name}, {case}: {trouble[:600]}")
    assert not failures, f"{len(failures)} of {len(table)} cases:\n" + "\n".join(failures)
    # The log says what was asked for, but for the path with a # in it, which is none.
    lines = [line for line in regent.said() if '"message":"request"' in line]
    paths = [json.loads(line)["path"] for line in lines]
    assert paths.count("/orders/7") == 2 * (1 + len(fronts)), paths
    assert paths.count("/verify") == 2 * 2, paths
    regent.stop()
    return f"{len(table)} cases through each of {', '.join(front.name for front in fronts)}"


def a_slip_in_nginx_s_config_lets_nobody_pass(place):
    """Nor does it hang. What would pass is the path / alone, which is none of these."""
    home = Party("home", "iss.home.test", "RS256", new_rsa())
    (place.folder / "home.pem").write_bytes(public(home.key))
    workload, verify = Workload(place), place.port()
    config = {
        "inbound.upstream": workload.url,
        "inbound.forward_auth.listen": f"127.0.0.1:{verify}",
        "inbound.issuers.home.issuer": home.iss,
        "inbound.issuers.home.public_key_file": place.folder / "home.pem",
        "inbound.rules": [{"path": "/", "exact": True, "anonymous": True}],
    }
    regent = place.regent(**config).start()
    told = "X-Original-URI /", "X-Original-Method GET", "X-Forwarded-Uri /", "X-Forwarded-Method GET"
    own = tuple(tuple(line.split()) for line in told)
    for name, old, new, spoofed, status in (
        ("no-uri", "proxy_set_header X-Original-URI $request_uri;", "", (), 500),
        ("no-method", "proxy_set_header X-Original-Method $request_method;", "", (), 500),
        ("slash", "/verify;", "/verify/;", own, 500),
        ("path", "/verify;", "/verify$request_uri;", own, 500),
        ("elsewhere", "/verify;", "/;", own, 500),
        # A length without its body.
        ("length", 'proxy_set_header Content-Length "";', "", own, 401),
    ):
        front = nginx(place, workload.port, verify, name, lambda text: re.sub(re.escape(old), new, text))
        for headers in {(), spoofed}:
            answer = Case("/admin", "", None, headers, "POST", b"a body").ask(front.port)
            assert answer.status == status, f"{name}: {answer}"
            workload.nothing()
        # What is right in it works all the same.
        right = Case("/", {}).ask(front.port)
        assert right.status == (200 if status == 401 else 500), f"{name}: {right}"
        workload.seen.clear()
    regent.stop()


CHECKS = [
    nginx_envoy_and_traefik_decide_as_regent_s_own_proxy_does,
    a_slip_in_nginx_s_config_lets_nobody_pass,
]
