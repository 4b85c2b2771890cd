"""The region is away, refuses, revokes: who notices, and what they are told."""

import hashlib
import os
import time

from .http import Load
from .place import until
from .rotation import regent_for


def a_region_that_is_away_costs_nothing_until_the_token_ends(place):
    region = place.region(access_seconds=8)
    regent = regent_for(place, region, token=region.mint()).start()
    served = []
    with Load(regent.port, threads=3, on_answer=served.append) as load:
        until("load", lambda: load.served > 20)
        region.stop()
        # Whatever refresh was under way has published its token when this one is asked for.
        until("503", lambda: load.failures)
    good = [answer for answer in served if answer.status == 200]
    bad = [answer for answer in served if answer.status != 200]
    assert len(bad) == len(load.failures), f"a request had no answer: {load.failures[:3]}"
    ends = max(answer.json()["exp"] for answer in good)
    # Regent counts from when it asked, and stops a second early: see the promises.
    early = [answer for answer in bad if answer.ended < ends - 1.01]
    assert not early, f"{len(early)} failed while the token was valid: {early[0]}"
    assert region.api_saw()["expired"] == 0, "an expired access token was sent"

    took = []
    for _ in range(40):
        answer = regent.call()
        assert answer.status == 503 and answer.reason == "no_access_token", answer
        assert int(answer.headers["retry-after"]) >= 1, answer
        assert 'details="no_access_token"' in answer.headers["proxy-status"], answer
        took.append(answer.ended - answer.began)
    assert sorted(took)[20] < 1, f"not at once: {took}"
    assert regent.admin("/livez").status == 200
    assert regent.admin("/readyz").status == 503
    assert regent.process.poll() is None

    region.start()
    until("it to recover", lambda: regent.call().status == 200, 150)
    assert regent.admin("/readyz").status == 200
    assert region.api_saw()["expired"] == 0, "an expired access token was sent"
    assert not region.refused()
    regent.stop()
    return f"{len(good)} served with the region away, 503 took {sorted(took)[20] * 1000:.0f} ms"


def a_region_that_is_away_at_the_start_is_waited_for(place):
    region = place.region(access_seconds=300)
    token = region.mint()
    region.stop()
    regent = regent_for(place, region, token=token, **{"outbound.token_wait": "1s"}).start()
    answer = regent.call()
    assert answer.status == 503 and answer.reason == "no_access_token", answer
    assert regent.admin("/livez").status == 200
    assert regent.admin("/startupz").status == 503
    assert regent.admin("/readyz").status == 503
    region.start()
    until("it to recover", lambda: regent.call().status == 200, 150)
    assert regent.admin("/startupz").status == 200
    regent.stop()


def a_region_that_fails_is_not_a_region_that_refuses(place):
    region = place.region(access_seconds=4)
    regent = regent_for(place, region, token=region.mint()).start()
    assert regent.served()
    for status in (500, 401, 503):  # with a firewall's HTML, each
        region.behave(fail=status)
        until(f"a refresh that is answered {status}", lambda: region.calls("refresh", status))
        until("no token", lambda: regent.call().status == 503)
        answer = regent.call()
        assert answer.reason == "no_access_token" and "retry-after" in answer.headers, answer
        region.behave(fail=None)
        until("it to recover", lambda: regent.call().status == 200, 150)
    regent.stop()


def an_access_token_that_is_of_no_use_does_not_cost_the_refresh_token(place):
    region = place.region(access_seconds=1)
    regent = regent_for(place, region, token=region.mint()).start()
    until("a second refresh", lambda: len(region.calls("refresh")) >= 2)
    assert not region.refused(), f"it threw the rotated refresh token away: {regent.tail()}"
    # From here on nothing is spent: an answer that the stop cut off would be lost in truth.
    region.behave(fail=503)
    until("a refresh that is answered 503", lambda: region.calls("refresh", 503))
    region.stop()
    region.start(access_seconds=300)
    until("it to recover", lambda: regent.call().status == 200, 150)
    assert not region.refused()
    regent.stop()


def a_dead_refresh_token_parks_until_a_new_one_comes(place):
    region = place.region(access_seconds=4)
    regent = regent_for(place, region, token=region.mint()).start()
    before = regent.served()
    region.blacklist()
    served = []
    with Load(regent.port, threads=1, on_answer=served.append) as load:
        until("login_refused", lambda: any(answer.reason == "login_refused" for answer in served))
    early = [a for a in served if a.status != 200 and a.ended < before["exp"] - 1.01]
    assert not early, f"failed while its token was valid: {early[0]}"
    answer = regent.call()
    assert answer.status == 503 and "retry-after" not in answer.headers, answer
    assert regent.admin("/livez").status == 200
    readyz = regent.admin("/readyz")
    assert readyz.status == 503 and b"refused" in readyz.body, readyz
    tries = len(region.refused())
    for _ in range(50):
        assert regent.call().reason == "login_refused"
    time.sleep(5)
    assert len(region.refused()) == tries <= 3, f"it hammers: {region.refused()}"
    assert regent.process.poll() is None

    regent.give(region.mint())
    began = time.monotonic()
    until("the new token to be taken", lambda: regent.call().status == 200, 60)
    took = time.monotonic() - began
    assert took < 10, f"a new token was taken after {took:.1f} s only"
    assert regent.admin("/readyz").status == 200
    regent.stop()
    return f"new token taken after {took:.1f} s"


def a_mounted_secret_that_is_swapped_by_symlink_is_seen(place):
    region = place.region(access_seconds=4)
    mount = place.folder / "mount"
    mount.mkdir()

    def publish(token, name):
        (mount / name).mkdir()
        (mount / name / "refresh-token").write_text(token)
        (mount / "..data.new").symlink_to(name)
        (mount / "..data.new").rename(mount / "..data")

    publish(region.mint(), "..first")
    (mount / "refresh-token").symlink_to("..data/refresh-token")
    credential = {"refresh_token_file": mount / "refresh-token", "state": f"file:{place.folder / 'state.json'}"}
    config = {f"region.credential.{key}": value for key, value in credential.items()}
    regent = regent_for(place, region, **config).start()
    assert regent.served()
    region.blacklist()
    until("login_refused", lambda: regent.call().reason == "login_refused")
    publish(region.mint(), "..second")
    began = time.monotonic()
    until("the new token to be taken", lambda: regent.call().status == 200, 60)
    assert time.monotonic() - began < 10
    # The operator's next token wins over the state that grew from the last one.
    publish(region.mint(), "..third")
    third = region.calls()
    regent.stop()
    regent.start()
    assert regent.served()
    assert region.calls()[len(third) :][-1]["status"] == 200
    regent.stop()


def a_revoked_access_token_costs_one_refresh_and_no_request(place):
    region = place.region(access_seconds=300)
    for method, path, body in (
        ("GET", "/api/whoami", None),
        ("POST", "/api/echo", os.urandom(32 * 1024)),
        ("DELETE", "/api/whoami", None),
    ):
        regent = regent_for(place, region, method, token=region.mint()).start()
        token = regent.served()
        refreshes = region.refreshes()
        region.api_behave(revoked=[token["jti"]])
        answer = regent.call(method, path, body)
        assert answer.status == 200, f"{method}: {answer} {regent.tail()}"
        if body:
            assert answer.body == body and answer.headers["x-body-sha256"] == hashlib.sha256(body).hexdigest()
        assert region.refreshes() == refreshes + 1, "not by one refresh"
        assert regent.served()["jti"] != token["jti"]
        assert region.refreshes() == refreshes + 1
        regent.stop()


def a_storm_of_401_costs_one_refresh_and_is_passed_on(place):
    region = place.region(access_seconds=300)
    regent = regent_for(place, region, token=region.mint()).start()
    assert regent.served()
    refreshes = region.refreshes()
    region.api_behave(reject_all=True)
    seen = []
    began = time.monotonic()
    with Load(regent.port, threads=8, pause=0, on_answer=seen.append):
        until("a storm", lambda: len(seen) > 1000, 300)
    windows = 1 + int((time.monotonic() - began) // 30)
    assert {answer.status for answer in seen} == {401}
    assert all(answer.json()["code"] == "token_not_valid" for answer in seen), "not the region's own answer"
    forced = region.refreshes() - refreshes
    assert 1 <= forced <= windows, f"{forced} refreshes for {len(seen)} answers of 401"
    region.api_behave(reject_all=False)
    assert regent.served()
    regent.stop()
    return f"{len(seen)} answers of 401, {forced} refresh"


CHECKS = [
    a_region_that_is_away_costs_nothing_until_the_token_ends,
    a_region_that_is_away_at_the_start_is_waited_for,
    a_region_that_fails_is_not_a_region_that_refuses,
    an_access_token_that_is_of_no_use_does_not_cost_the_refresh_token,
    a_dead_refresh_token_parks_until_a_new_one_comes,
    a_mounted_secret_that_is_swapped_by_symlink_is_seen,
    a_revoked_access_token_costs_one_refresh_and_no_request,
    a_storm_of_401_costs_one_refresh_and_is_passed_on,
]
