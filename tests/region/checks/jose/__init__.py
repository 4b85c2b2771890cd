"""Forged and odd tokens, made with other JOSE implementations (PyJWT, jwcrypto) than the one under test.

Each case of `table` is a token and its twin, which differs in the attacked attribute alone: the twin
passes and the workload records it, the attacked one is refused for its reason, counts once, and the
workload sees nothing of it.
"""

import random
from http.client import HTTPConnection

from .. import http
from ..canary import Canary
from ..workload import Workload, identity
from .parties import Parties
from .table import cases
from .vectors import explain_holds_the_vectors_of_the_standards


def sent(connection, values):
    """One request with these Authorization fields; http.client's own API would merge or check them."""
    connection.putrequest("GET", "/orders/7")
    for value in values:
        connection.putheader("authorization", value.encode())
    connection.endheaders()
    response = connection.getresponse()
    content = response.read()
    names = {name.lower(): value for name, value in response.getheaders()}
    return http.Answer(response.status, names, content, 0, 0)


def challenge(case):
    error = "invalid_request" if case.status == 400 else "invalid_token"
    return f'Bearer realm="regent", error="{error}", error_description="{case.reason}"'


def wrong(case, place, regent, workload):
    """What does not hold of a case."""
    connection = HTTPConnection("127.0.0.1", regent.port, timeout=90)
    try:
        good = sent(connection, case.twin)
        if good.status != 200 or len(workload.seen) != 1:
            return f"its twin: {good}, recorded {workload.seen}"
        if identity(workload.seen.pop()["headers"]).get("x-regent-issuer") != case.issuer:
            return "its twin was taken for another issuer's"
        before = regent.metrics("regent_refused_total")
        bad = sent(connection, case.attacked)
    finally:
        connection.close()
    with open(place.folder / "error-bodies", "a") as kept:
        kept.write(f"{bad}\n")
    after = regent.metrics("regent_refused_total")
    moved = {labels: n - before.get(labels, 0) for labels, n in after.items() if n != before.get(labels)}
    if workload.seen:
        return f"the workload saw it: {workload.seen}"
    if (bad.status, bad.reason) != (case.status, case.reason):
        return f"expected {case.status} {case.reason}: {bad}"
    if bad.headers.get("www-authenticate") != challenge(case):
        return f"expected {challenge(case)}: {bad}"
    if bad.headers.get("proxy-status") != f'regent; details="{case.reason}"':
        return f"the Proxy-Status is another: {bad}"
    if moved != {f'side="inbound",reason="{case.reason}",enforced="true"': 1}:
        return f"counted {moved}"
    return None


def forged_and_odd_tokens_are_refused_for_their_reason(place):
    canary = Canary(place)
    parties = Parties(place, canary.port)
    workload = Workload(place)
    regent = place.regent(**{"inbound.upstream": workload.url, "log.access": True} | parties.config()).start()
    all_cases = cases(parties)
    names = [case.name for case in all_cases]
    assert len(set(names)) == len(names) >= 150, f"{len(names)} cases, {len(set(names))} names"
    with open(place.folder / "issued", "w") as issued:
        for case in all_cases:
            issued.writelines(f"{value.split(' ', 1)[-1]}\n" for value in case.twin + case.attacked)

    failures = []
    for case in all_cases:
        if trouble := wrong(case, place, regent, workload):
            workload.seen.clear()
            failures.append(f"{case.name}: {trouble[:600]}")
    # Once more, from memory or not, in an order that no cache expects.
    again = [(case, kind) for case in all_cases for kind in ("twin", "attacked")]
    seed = random.randrange(2**32)
    random.Random(seed).shuffle(again)
    connection = HTTPConnection("127.0.0.1", regent.port, timeout=90)
    for case, kind in again:
        answer = sent(connection, getattr(case, kind))
        expected = (200, None) if kind == "twin" else (case.status, case.reason)
        if (answer.status, answer.reason) != expected:
            failures.append(f"{case.name}, {kind}, in the order of seed {seed}: {answer}")
    connection.close()
    if len(workload.seen) != len(all_cases):
        failures.append(f"the second time {len(workload.seen)} reached the workload, not {len(all_cases)}")
    assert not failures, f"{len(failures)} of {len(all_cases)} cases:\n" + "\n".join(failures)
    assert not canary.connections, f"a token's own URL was asked: {canary.connections}"
    assert not [line for line in regent.said() if "panic" in line], regent.tail()
    for path in ("/status", "/status.json", "/config", "/readyz"):
        regent.admin(path)
    regent.stop()
    return f"{len(all_cases)} cases"


CHECKS = [forged_and_odd_tokens_are_refused_for_their_reason, explain_holds_the_vectors_of_the_standards]
