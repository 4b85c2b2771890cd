"""Rotation without grace: nobody is locked out by load, restarts, sharing or kill -9."""

import os
import random
import threading
import time

from . import http
from .cut import Cut
from .http import Load
from .place import until


# The shortest lifetime that leaves two seconds to use, so that a refresh on a busy machine is over before
# its token is. simplejwt takes `exp` from a moment before `iat`, both in whole seconds: one token in some
# hundred claims to live a second less.
SHORT = 3


def regent_for(place, region, name="regent", **config):
    config = {"region.url": region.url, "outbound.upstream": region.api_url} | config
    return place.regent(name, **config)


def under_load(*loads):
    """What went before was under load: on a slow machine the requests may lag behind, so wait for them."""
    until("load", lambda: all(load.served > 100 or load.failures for load in loads))


def no_failures(load):
    assert not load.failures, f"{len(load.failures)} of {load.served} failed, first: {load.failures[:3]}"
    assert load.served > 100, f"only {load.served} requests: no load"


def two_hundred_concurrent_first_requests_cost_one_refresh(place):
    region = place.region(access_seconds=300)
    region.behave(delay_before=2.0)
    regent = regent_for(place, region, token=region.mint(), **{"outbound.token_wait": "60s"}).start()
    answers, together = [], threading.Barrier(200)

    def first_request():
        together.wait()
        answers.append(regent.call())

    clients = [threading.Thread(target=first_request) for _ in range(200)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert [answer.status for answer in answers] == [200] * 200, answers[0]
    assert {answer.json()["username"] for answer in answers} == {"alice"}
    assert len({answer.json()["jti"] for answer in answers}) == 1, "more than one access token"
    assert len(region.calls()) == 1, region.calls()
    return "200 requests, 1 refresh"


def a_hundred_rotations_under_load_fail_no_request_and_restarts_work(place):
    rotations, restarts = int(os.environ.get("REGENT_ROTATIONS", 100)), 20
    region = place.region(access_seconds=SHORT)
    regent = regent_for(place, region, token=region.mint()).start()
    with Load(regent.port) as load:
        for restart in range(1, restarts + 1):
            wanted = rotations * restart // restarts
            until(f"{wanted} rotations", lambda: region.refreshes() >= wanted)
            load.hold()
            regent.stop()
            regent.start()
            assert regent.served()["username"] == "alice"
            load.go()
        until(f"{rotations} rotations", lambda: region.refreshes() >= rotations)
        under_load(load)
    no_failures(load)
    assert not region.refused(), f"a spent token was used again: {region.refused()}"
    presented = [call["presented"] for call in region.calls("refresh")]
    assert len(set(presented)) == len(presented), "a refresh token was used twice"
    assert region.api_saw()["expired"] == 0, "an expired access token was sent"
    return f"{region.refreshes()} rotations, {load.served} requests, {restarts} restarts"


def two_processes_on_one_state_both_stay_healthy(place):
    rotations = int(os.environ.get("REGENT_ROTATIONS", 100))
    region = place.region(access_seconds=SHORT)
    token = place.folder / "shared-token"
    token.touch(mode=0o600)
    token.write_text(region.mint())
    shared = {
        "region.credential.refresh_token_file": token,
        "region.credential.state": f"file:{place.folder / 'shared-state.json'}",
    }
    # Time enough, in each refresh, for the other one to want the same.
    region.behave(delay_before=0.3)
    one = regent_for(place, region, "one", **shared).start()
    two = regent_for(place, region, "two", **shared).start()
    with Load(one.port, threads=2) as first, Load(two.port, threads=2) as second:
        until(f"{rotations // 2} rotations", lambda: region.refreshes() >= rotations // 2, 300)
        # One of them is away for a while, and comes back to a state that moved on.
        second.hold()
        two.stop()
        moved_on = region.refreshes() + 3
        until("the other one's rotations", lambda: region.refreshes() >= moved_on)
        two.start()
        assert two.served()["username"] == "alice"
        second.go()
        until(f"{rotations} rotations", lambda: region.refreshes() >= rotations, 300)
        under_load(first, second)
    no_failures(first)
    no_failures(second)
    assert not region.refused(), f"one spent the other's token: {region.refused()}"
    return f"{region.refreshes()} rotations, {first.served} and {second.served} requests"


def kill_9_at_any_moment_locks_nobody_out(place):
    """Two in twenty kills come between the region's commit and its answer: those alone may cost the login."""
    kills = int(os.environ.get("REGENT_KILLS", 100))
    seed = int(os.environ.get("REGENT_SEED", time.time()))
    dice = random.Random(seed)
    region = place.region(access_seconds=2)
    regent = regent_for(place, region, token=region.mint())
    lost = refused = 0

    def killed_before_the_answer():
        before = region.refreshes()
        region.behave(delay_after=15)
        regent.start(wait=False)
        until("a refresh that is committed", lambda: region.refreshes() > before or region.refused()[refused:])
        regent.kill()
        region.behave(delay_after=0)

    def killed_at_random():
        regent.start(wait=False)
        with Load(regent.port, threads=2, pause=0.005) as load:
            time.sleep(dice.uniform(0, 1.5))
            regent.kill()
        return load.served

    served = 0
    for kill in range(kills):
        if kill % 10 == 4:
            killed_before_the_answer()
        else:
            served += killed_at_random()
        if len(region.refused()) == refused and kill % 10 != 4:
            continue
        lost += locked_out_and_back(region, regent)
        refused = len(region.refused())
    regent.start()
    until("the last start to work", lambda: regent.call().status == 200)
    regent.stop()
    assert served > kills, f"only {served} requests were served between the kills"
    return f"{kills} kills (seed {seed}), {served} requests served, {lost} answers lost and said so"


def locked_out_and_back(region, regent):
    """Starts it in peace. Where it is locked out: was that the excuse, does it say so, is it mended?"""
    before = len(region.refused())
    regent.turn_the_log()
    regent.start()
    until("the region's word", lambda: regent.call().status == 200 or region.refused()[before:])
    if not region.refused()[before:]:
        regent.stop()
        return False
    spent = region.refused()[-1]["presented"]
    answers = [call for call in region.calls("refresh", 200) if call["presented"] == spent]
    assert answers, f"the region refused a token that nobody had spent: {regent.tail()}"
    used = region.api_saw()["access"].get(answers[-1]["access"], 0)
    assert not used, f"its access token was used before the new refresh token was stored: {regent.tail()}"
    until("login_refused", lambda: regent.call().reason == "login_refused")
    until("the log to say that the answer was lost", lambda: says_lost(regent))
    regent.give(region.mint())
    until("the new token to be taken", lambda: regent.call().status == 200, 15)
    regent.stop()
    return True


def says_lost(regent):
    """Both at info or above: that the answer was lost, and what to do about it."""
    return any("lost" in line and "put a new refresh token into that file" in line for line in regent.said())


def an_answer_that_is_cut_off_is_said_to_be_lost_and_nothing_hammers(place):
    region = place.region(access_seconds=4)
    cut = Cut(place.port(), region.port)
    url = {"region.url": f"http://127.0.0.1:{cut.port}"}
    regent = regent_for(place, region, token=region.mint(), **url).start()
    token = regent.served()
    cut.armed = True
    until("an answer to be cut off", lambda: cut.dropped)
    cut.armed = False
    with Load(regent.port, threads=1) as load:
        until("login_refused", lambda: any("login_refused" in failure for failure in load.failures))
    early = [failure for failure in load.failures if float(failure.split()[0]) < token["exp"] - 1]
    assert not early, f"failed while its token was valid: {early[:2]}"
    answer = regent.call()
    assert answer.status == 503 and "retry-after" not in answer.headers, answer
    until("the log to say that the answer was lost", lambda: says_lost(regent))
    tries = len(region.refused())
    time.sleep(5)
    assert len(region.refused()) == tries <= 3, f"it hammers: {region.refused()}"
    regent.give(region.mint())
    until("the new token to be taken", lambda: regent.call().status == 200, 15)
    regent.stop()
    cut.close()
    return f"{tries} refused tries"


CHECKS = [
    kill_9_at_any_moment_locks_nobody_out,
    a_hundred_rotations_under_load_fail_no_request_and_restarts_work,
    two_processes_on_one_state_both_stay_healthy,
    two_hundred_concurrent_first_requests_cost_one_refresh,
    an_answer_that_is_cut_off_is_said_to_be_lost_and_nothing_hammers,
]
