"""A certified OpenID provider (npm's oidc-provider) as a federated issuer, found by its discovery document."""

import base64
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from jwcrypto import jwk

from .inbound import bearing, header, refused
from .place import HERE, accepts, until
from .sdk import claims
from .workload import Workload, identity

ORDERS, STOCK = "http://orders.test/", "http://stock.test/"
# As server.mjs has it.
BACK = "https://browser.test/back"


class Provider:
    """A provider with a set of private keys, the first of which signs; may be stopped and started with another."""

    def __init__(self, place):
        self._place = place
        self.folder = place.folder / "provider"
        self.folder.mkdir()
        self.port = place.port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self._secret = secrets.token_urlsafe(24)
        self._process = None

    def start(self, *keys):
        """With these keys, as `key` makes them."""
        file = self.folder / "private.jwks"
        file.write_text(json.dumps({"keys": [key.export(as_dict=True) for key in keys]}))
        home = Path(os.environ.get("REGENT_OIDC", HERE / "oidc"))
        assert (home / "node_modules").exists(), f"`npm ci` was not run in {home}"
        # `.ci/run` puts one there where Debian's is too old.
        node = shutil.which("node", path=f"{home / 'node_modules' / '.bin'}:{os.environ['PATH']}")
        assert node, "Node is not installed"
        command = [node, home / "server.mjs", self.port, file]
        environment = {"PATH": os.environ["PATH"], "CLIENT_SECRET": self._secret}
        log = self.folder / "provider.log"
        self._process = self._place.spawn(command, environment, log)
        until("the provider", lambda: self._process.poll() is not None or accepts(self.port))
        assert self._process.poll() is None, log.read_text()
        return self

    def stop(self):
        self._process.kill()
        self._process.wait()
        self._place.ended(self._process)

    def access_token(self, resource=ORDERS, **headers):
        fields = {"grant_type": "client_credentials", "scope": "orders:read", "resource": resource}
        return self._token("machine", fields, **headers)["access_token"]

    def id_token(self, user, kind="code"):
        """By the authorization code or the hybrid flow (`code id_token`), as a browser goes through it."""
        verifier = secrets.token_urlsafe(48)
        question = {
            "client_id": "browser",
            "response_type": kind,
            "scope": "openid",
            "redirect_uri": BACK,
            "nonce": secrets.token_urlsafe(8),
            "code_challenge_method": "S256",
            "code_challenge": unpadded(hashlib.sha256(verifier.encode()).digest()),
        }
        answer = Browser(self.port).until_back(f"/auth?{urlencode(question)}", user)
        if token := answer.get("id_token"):
            return self._issued(token)
        fields = {"grant_type": "authorization_code", "redirect_uri": BACK, "code_verifier": verifier}
        return self._token("browser", fields | {"code": answer["code"]})["id_token"]

    def _token(self, client, fields, **headers):
        basic = base64.b64encode(f"{client}:{self._secret}".encode()).decode()
        headers |= {"authorization": f"Basic {basic}", "content-type": "application/x-www-form-urlencoded"}
        status, _, body = asked(self.port, "POST", "/token", urlencode(fields), headers)
        assert status == 200, body
        answer = json.loads(body)
        for name in ("access_token", "id_token"):
            self._issued(answer.get(name, ""))
        return answer

    def _issued(self, token):
        with open(self.folder / "issued", "a") as issued:
            issued.write(f"{token}\n")
        return token


class Browser:
    """Follows redirects, keeps cookies, and fills in the forms of the provider's pages for development."""

    def __init__(self, port):
        self._port, self._cookies = port, {}

    def until_back(self, path, user):
        method, form = "GET", None
        for _ in range(20):
            cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
            headers = {"cookie": cookies, "content-type": "application/x-www-form-urlencoded"}
            status, fields, body = asked(self._port, method, path, form, headers)
            for value in (value for name, value in fields if name.lower() == "set-cookie"):
                self._cookies |= {name: morsel.value for name, morsel in SimpleCookie(value).items()}
            method, form = "GET", None
            if location := next((value for name, value in fields if name.lower() == "location"), None):
                if location.startswith(BACK):
                    answer = urlsplit(location)
                    return {name: values[0] for name, values in parse_qs(answer.query or answer.fragment).items()}
                path = urlsplit(location)._replace(scheme="", netloc="").geturl()
                continue
            assert status == 200, body
            prompt = re.search(r'name="prompt" value="(\w+)"', body).group(1)
            path = urlsplit(re.search(r'action="([^"]+)"', body).group(1)).path
            method, form = "POST", urlencode({"prompt": prompt, "login": user, "password": "any"})
        raise AssertionError("the provider never sends the browser back")


def asked(port, method, path, body, headers):
    connection = HTTPConnection("127.0.0.1", port, timeout=90)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.getheaders(), response.read().decode()
    finally:
        connection.close()


def unpadded(content):
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def key(name):
    return jwk.JWK.generate(kty="RSA", size=2048, kid=name, use="sig", alg="RS256")


def before(place, provider, workload, name="regent", **config):
    """A sidecar that trusts the provider as `west`, its tokens for ORDERS; `browser` is an ID token's audience."""
    config = {
        "inbound.upstream": workload.url,
        "inbound.issuers.west.issuer": provider.issuer,
        "inbound.issuers.west.discovery_url": f"{provider.issuer}/.well-known/openid-configuration",
        "inbound.issuers.west.audiences": [ORDERS, "browser"],
        "inbound.issuers.west.identity_headers": {"x-regent-user": "sub", "x-regent-client": "client_id"},
        "inbound.issuers.west.jwks_cooldown": "1s",
    } | {f"inbound.issuers.west.{name}": value for name, value in config.items()}
    return place.regent(name, **config)


def status(regent, token):
    return regent.call(headers=bearing(token)).status


def a_provider_s_access_token_passes_and_its_id_token_does_not(place):
    provider = Provider(place).start(key("first"))
    workload = Workload(place)
    regent = before(place, provider, workload).start()
    token = provider.access_token()
    assert header(token)["typ"] == "at+jwt", header(token)
    until("the provider's keys", lambda: status(regent, token) == 200)
    seen = workload.seen.pop()
    who = {"x-regent-user": "west:machine", "x-regent-client": "west:machine", "x-regent-issuer": "west"}
    assert identity(seen["headers"]) == who, seen
    workload.seen.clear()

    # Of the code flow it is what nobody called an access token; of the hybrid flow it has a c_hash.
    assert "c_hash" in claims(hybrid := provider.id_token("alice", "code id_token")), claims(hybrid)
    refused(regent, workload, hybrid, "wrong_token_type")
    refused(regent, workload, provider.id_token("alice"), "missing_claim")
    refused(regent, workload, provider.access_token(STOCK), "wrong_audience")
    refused(regent, workload, provider.access_token(dpop=proof(provider)), "bound_token")
    regent.stop()


def proof(provider):
    """RFC 9449 section 4.2."""
    mine = jwk.JWK.generate(kty="EC", crv="P-256")
    head = {"typ": "dpop+jwt", "jwk": json.loads(mine.export_public())}
    content = {
        "jti": secrets.token_urlsafe(8),
        "htm": "POST",
        "htu": f"{provider.issuer}/token",
        "iat": int(time.time()),
    }
    return jwt.encode(content, mine.export_to_pem(private_key=True, password=None), "ES256", head)


def a_provider_s_new_key_is_fetched_and_its_withdrawn_key_ends(place):
    old, new = key("old"), key("new")
    provider = Provider(place).start(old)
    workload = Workload(place)
    # One learns by fetching every second, the other alone by tokens whose kid it does not know.
    steady = before(place, provider, workload, "steady", jwks_refresh="1s").start()
    asking = before(place, provider, workload, "asking", jwks_refresh="12h").start()
    by_old = provider.access_token()
    for regent in (steady, asking):
        until("the provider's keys", lambda regent=regent: status(regent, by_old) == 200)

    provider.stop()
    for regent in (steady, asking):
        assert status(regent, by_old) == 200, "the provider is away, its keys are good"
    provider.start(new, old)
    by_new = provider.access_token()
    assert header(by_new)["kid"] == "new", header(by_new)
    # A fetch that failed while the provider was away, or the cool-down, may come before.
    for regent in (steady, asking):
        until("the new key", lambda regent=regent: status(regent, by_new) == 200)
        assert status(regent, by_old) == 200, "the provider still has the old key"

    provider.stop()
    provider.start(new)
    until("the withdrawn key to end", lambda: status(steady, by_old) == 401)
    workload.seen.clear()
    refused(steady, workload, by_old, "unknown_key")
    assert status(steady, by_new) == 200
    # The other had no reason to ask since, and has 12 hours: it still has both.
    assert status(asking, by_new) == 200
    assert asking.metrics("regent_issuer_keys")['issuer="west"'] == 2
    assert steady.metrics("regent_issuer_keys")['issuer="west"'] == 1
    fetched = asking.metrics("regent_issuer_fetch_total")['issuer="west",result="ok"']
    steady.stop()
    asking.stop()
    return f"{fetched:.0f} fetches by the one that asks for unknown keys"


CHECKS = [
    a_provider_s_access_token_passes_and_its_id_token_does_not,
    a_provider_s_new_key_is_fetched_and_its_withdrawn_key_ends,
]
