"""The inbound side before a workload that records: a region's tokens by its PEM, and the whole circle."""

import json

from . import http
from .place import until
from .rotation import regent_for
from .sdk import LOGIN, THROUGH_REGENT, claims, sdk
from .workload import Workload, identity

# As the region's settings have it: no URL.
ISSUER = "iss.region.test"


def before(place, region, workload, name="regent", **config):
    """A sidecar before the workload, set up as a region's admin would: the `iss` and the PEM."""
    config = {
        "inbound.upstream": workload,
        "log.access": True,
        "inbound.issuers.home.issuer": ISSUER,
        "inbound.issuers.home.public_key_file": region.public_key,
    } | config
    return place.regent(name, **config)


def bearing(token, **more):
    return {"authorization": f"Bearer {token}"} | more


def refused(regent, workload, token, reason, path="/api/whoami"):
    """The contract's answer, one count, and no byte for the workload."""
    before = regent.metrics("regent_refused_total")
    answer = regent.call(path=path, headers=bearing(token))
    assert answer.status == 401 and answer.reason == reason, f"expected {reason}: {answer}"
    challenge = f'Bearer realm="regent", error="invalid_token", error_description="{reason}"'
    assert answer.headers["www-authenticate"] == challenge, answer
    after = regent.metrics("regent_refused_total")
    moved = {labels: count - before.get(labels, 0) for labels, count in after.items() if count != before.get(labels)}
    assert moved == {f'side="inbound",reason="{reason}",enforced="true"': 1}, moved
    workload.nothing()


def a_region_s_access_token_passes_by_its_pem_and_nothing_else_does(place):
    region = place.region()
    workload = Workload(place)
    regent = before(place, region, workload.url, **{"inbound.issuers.home.leeway": "0s"}).start()
    tokens = region.login()
    assert "kid" not in header(tokens["access"]), "the region's tokens have no kid: that is the point"
    posing = {"X-Regent-User": "root", "x_regent_user": "root", "X.Regent.User-Id": "0", "X-Regent-Issuer": "x"}
    answer = regent.call("POST", "/api/echo?x=1", b"body", bearing(tokens["access"], **posing))
    assert answer.status == 200, f"{answer}\n{regent.tail()}"
    seen = workload.only()
    assert (seen["method"], seen["path"], seen["body"]) == ("POST", "/api/echo?x=1", b"body"), seen
    who = {"x-regent-user": "alice", "x-regent-user-id": "1", "x-regent-issuer": "home"}
    assert identity(seen["headers"]) == who, seen
    names = [name for name, _ in seen["headers"]]
    assert "authorization" not in names and not [name for name in names if "_" in name or "." in name], names

    refused(regent, workload, tokens["refresh"], "wrong_token_type")
    # A query is no place for a token, and no log's business.
    answer = regent.call(path=f"/api/whoami?access_token={tokens['access']}")
    assert answer.status == 401 and answer.reason == "missing_token", answer
    workload.nothing()
    # The same `iss`, the same claims, another key.
    other = place.region("other")
    refused(regent, workload, other.login()["access"], "bad_signature")
    bob = region.login("bob")["access"]
    assert regent.call(headers=bearing(bob)).json()["identity"]["x-regent-user"] == "bob"
    workload.only()

    # Revocation of refresh tokens is the region's own affair: an access token is good to its end.
    region.blacklist()
    assert regent.call(headers=bearing(tokens["access"])).status == 200
    workload.only()
    region.stop()
    region.start(access_seconds=2)
    short = region.login()["access"]
    until("a token of two seconds to end", lambda: regent.call(headers=bearing(short)).status == 401)
    workload.seen.clear()
    refused(regent, workload, short, "expired")
    regent.stop()


def header(token):
    return claims(f".{token.split('.')[0]}.")


def tokens_without_an_issuer_are_of_the_one_that_has_none(place):
    plain, named = place.region("plain", issuer=""), place.region("named")
    workload = Workload(place)
    config = {
        "inbound.issuers.plain.issuer": "",
        "inbound.issuers.plain.public_key_file": plain.public_key,
        "inbound.rules": [{"path": "/healthz", "anonymous": True}],
    }
    regent = before(place, named, workload.url, **config).start()
    tokens = {"plain": plain.login()["access"], "home": named.login()["access"]}
    assert "iss" not in claims(tokens["plain"]), "simplejwt put one in"
    for name, user in (("plain", "plain:alice"), ("home", "alice")):
        assert regent.call(headers=bearing(tokens[name])).status == 200, name
        who = identity(workload.only()["headers"])
        assert (who["x-regent-issuer"], who["x-regent-user"]) == (name, user), who
    # Where no token is needed, one that comes is held to the rules all the same.
    assert regent.call(path="/healthz").status == 200
    assert identity(workload.only()["headers"]) == {}
    refused(regent, workload, plain.login()["refresh"], "wrong_token_type", "/healthz")
    regent.stop()
    without = before(place, named, workload.url, "without").start()
    refused(without, workload, tokens["plain"], "missing_claim")
    without.stop()


def a_region_s_new_key_is_taken_from_the_file(place):
    region, other = place.region(), place.region("other")
    workload = Workload(place)
    pem = place.folder / "pem"
    pem.write_bytes(region.public_key.read_bytes())
    regent = before(place, region, workload.url, **{"inbound.issuers.home.public_key_file": pem}).start()
    old, new = region.login()["access"], other.login()["access"]
    assert regent.call(headers=bearing(old)).status == 200
    workload.only()
    refused(regent, workload, new, "bad_signature")
    fresh = pem.with_suffix(".new")
    fresh.write_bytes(other.public_key.read_bytes())
    fresh.rename(pem)
    until("the new key to be read", lambda: regent.call(headers=bearing(new)).status == 200)
    workload.seen.clear()
    refused(regent, workload, old, "bad_signature")
    # What is no key does not replace one.
    said = len(regent.said())
    fresh.write_text("no key")
    fresh.rename(pem)
    until("the broken file to be told of", lambda: len(regent.said()) > said)
    assert regent.call(headers=bearing(new)).status == 200, regent.tail()
    regent.stop()


def the_whole_circle_with_the_sdk(place):
    region = place.region(rotate=0)
    workload = Workload(place)
    sdk(place, LOGIN, REGION=region.url, PASSWORD=place.passwords["alice"])
    store = place.folder / "sdk-home" / ".practicus" / "core.conf"
    inward = before(place, region, workload.url, "inward").start()
    config = {"region.credential.core_conf": store, "outbound.upstream": f"http://127.0.0.1:{inward.port}"}
    outward = place.regent("outward", **config).start()
    posing = {"x-regent-user": "root", "authorization": "Bearer no.such.token"}
    answer = outward.call("GET", "/predict?x=1", headers=posing)
    assert answer.status == 200, f"{answer}\n{outward.tail()}\n{inward.tail()}"
    seen = workload.only()
    who = {"x-regent-user": "alice", "x-regent-user-id": "1", "x-regent-issuer": "home"}
    assert seen["path"] == "/predict?x=1" and identity(seen["headers"]) == who, seen
    outward.stop()

    # Both sides in one sidecar, with the region's own API as the workload: it wants the token too.
    inward.stop()
    port = place.port()
    both = {
        "inbound.listen": f"127.0.0.1:{port}",
        "inbound.upstream": region.api_url,
        "inbound.authorization": "forward",
        "inbound.issuers.home.issuer": ISSUER,
        "inbound.issuers.home.public_key_file": region.public_key,
        "outbound.upstream": f"http://127.0.0.1:{port}",
    }
    pod = regent_for(place, region, "pod", token=region.mint(), **both)
    pod.start()
    assert pod.served()["username"] == "alice"
    tokens = json.loads(sdk(place, THROUGH_REGENT, REGENT=f"http://localhost:{pod.port}"))
    assert tokens["cluster"] == "test" and claims(tokens["model"])["user_id"] == "1", tokens
    assert http.call(port, "GET", "/api/whoami").reason == "missing_token"
    pod.stop()


CHECKS = [
    tokens_without_an_issuer_are_of_the_one_that_has_none,
    a_region_s_access_token_passes_by_its_pem_and_nothing_else_does,
    a_region_s_new_key_is_taken_from_the_file,
    the_whole_circle_with_the_sdk,
]
