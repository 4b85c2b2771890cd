"""What requests cost: the cases, and how Regent and its rivals are measured in them, in turn."""

import sys
import time
from dataclasses import dataclass, field
from functools import partial

import measure
import proxies
from ground import Ground
from h2 import speaks_h2
from keys import certificate, forged_token
from measure import LOAD_CORE, PROXY_CORE, all_ok

TUNED = "nginx, tuned buffers"
WARM_UP, LOADED_AFTER = 1, 0.25  # seconds
OF_MAXIMUM = 0.6  # the fixed rate, of what the reference reaches


@dataclass
class Case:
    """One row of the table for each proxy."""

    name: str
    closed: object  # (port, seconds) -> (requests, seconds): as many as the server takes
    open: object = None  # (port, rate, seconds) -> what `load` says; None: no fixed rate here
    without: tuple = ()  # proxies that this says nothing of
    goals: dict = field(default_factory=dict)  # Regent's CPU over that of this proxy, at most
    p99_goals: dict = field(default_factory=dict)  # the same for p99


@dataclass
class Row:
    """What was measured of one proxy in one case."""

    idle: int  # KiB of PSS before any request
    costs: list = field(default_factory=list)
    latencies: list = field(default_factory=list)  # (p50, p99) in microseconds; None: overloaded
    loaded: list = field(default_factory=list)  # KiB of PSS while it takes as much as it can


@dataclass
class Results:
    """Of one part."""

    title: str
    reference: str
    cases: list
    rows: dict = field(default_factory=dict)  # (case, proxy) -> Row
    rates: dict = field(default_factory=dict)  # case -> requests per second


def outbound(ground, arguments):
    token = forged_token()
    port = start_origin(ground)
    headers = {"Authorization": f"Bearer {token}"}
    programs = {
        "nginx": partial(proxies.nginx, ground, port, headers),
        TUNED: partial(proxies.nginx, ground, port, headers, name="tuned", more=proxies.TUNED),
        "haproxy": partial(proxies.haproxy, ground, port, token),
        "envoy": partial(proxies.envoy, ground, port, token),
        "regent": lambda: proxies.regent(ground, arguments.regent, proxies.outbound(ground, port, token)),
    }
    small, large = {"without": (TUNED,)}, {"goals": {"nginx": 0.8}}
    cases = [
        requests("1 KiB, 1 connection", "1k", 1, **small),
        requests("1 KiB, 64 connections", "1k", 64, **small, goals={"nginx": 1}, p99_goals={"nginx": 1.2}),
        requests("1 KiB, 1,000 connections", "1k", 1000, **small),
        requests("64 KiB, 64 connections", "64k", 64, **large),
        requests("1 MiB, 64 connections", "1m", 64, **large),
    ]
    return "Outbound: a token is put in", "nginx", programs, cases


def tls(ground, arguments):
    token = forged_token()
    ca, key = certificate(ground.folder)
    port = start_origin(ground, (ca, key))
    headers = {"Authorization": f"Bearer {token}"}
    programs = {
        "nginx": partial(proxies.nginx, ground, port, headers, ca=ca),
        "haproxy": partial(proxies.haproxy, ground, port, token, ca=ca),
        "envoy": partial(proxies.envoy, ground, port, token, ca=ca),
        "regent": lambda: proxies.regent(ground, arguments.regent, proxies.outbound(ground, port, token, ca=ca)),
    }
    cases = [requests("1 KiB, 64 connections", "1k", 64, goals={"nginx": 1})]
    return "Outbound over TLS 1.3 to the upstream", "nginx", programs, cases


def h2(ground, arguments):
    token = forged_token()
    port = start_origin(ground)
    headers = {"Authorization": f"Bearer {token}"}
    programs = {
        "nginx": partial(proxies.nginx, ground, port, headers, listen=" http2"),
        "haproxy": partial(proxies.haproxy, ground, port, token, bind=" proto h2"),
        "envoy": partial(proxies.envoy, ground, port, token),
        "regent": lambda: proxies.regent(ground, arguments.regent, proxies.outbound(ground, port, token)),
    }

    def closed(port, seconds):
        return measure.h2load(port, "1k", seconds, connections=8, streams=8)

    cases = [Case("1 KiB, 8 connections with 8 streams", closed)]
    return "Outbound, HTTP/2 downstream (h2c by prior knowledge)", "nginx", programs, cases


def inbound(ground, arguments):
    tokens = arguments.tokens
    key_file = ground.folder / "public.pem"
    key_file.write_text(tokens.key.pem())
    port = start_origin(ground)
    keys = f'public_key_file = "{key_file}"'
    programs = {
        "nginx, which verifies nothing": partial(proxies.nginx, ground, port, {"X-Forwarded-For": "$remote_addr"}),
        "haproxy": partial(proxies.haproxy_inbound, ground, port, key_file),
        "envoy": partial(proxies.envoy_inbound, ground, port, tokens.key.jwk()),
        "regent": lambda: proxies.regent(ground, arguments.regent, proxies.inbound(port, keys)),
    }
    goals = {"haproxy": 0.25, "envoy": 0.25}
    each_new = Fresh(tokens, tokens.count // (2 * arguments.rounds + 1))
    cases = [
        requests("one token", "1k", 64, tokens=tokens.first(1, ground.folder / "one"), goals=goals),
        requests("1,000 tokens in turn", "1k", 64, tokens=tokens.first(1000, ground.folder / "thousand"), goals=goals),
        Case("every token new", each_new.closed, each_new.open, goals={"haproxy": 2 / 3}),
    ]
    return "Inbound, 1 KiB, 64 connections: RS256 tokens are verified, the user is named", "haproxy", programs, cases


def requests(name, path, connections, tokens=None, **more):
    """The ordinary case. wrk has no tokens in turn, so callers that bring some are the bench's own."""

    def closed(port, seconds):
        if tokens is None:
            return measure.wrk(port, path, seconds, connections)
        return all_ok(measure.load(port, path, connections, seconds=seconds, tokens=tokens))

    def at_rate(port, rate, seconds):
        return measure.load(port, path, connections, rate=rate, seconds=seconds, tokens=tokens)

    return Case(name, closed, at_rate, **more)


class Fresh:
    """No token comes to a server twice: each load takes the next of them, and all of a load is counted."""

    def __init__(self, tokens, share):
        self._tokens, self._share, self._next = tokens, share, {}

    def closed(self, port, _seconds):
        return all_ok(self._load(port))

    def open(self, port, rate, _seconds):
        return self._load(port, rate=rate, seconds=self._share / rate)

    def _load(self, port, **more):
        start = self._next.get(port, 0)
        self._next[port] = start + self._share
        assert self._next[port] <= self._tokens.count, "out of tokens"
        return measure.load(port, "1k", 64, count=self._share, tokens=self._tokens.file, start=start, **more)


PARTS = {"outbound": outbound, "tls": tls, "h2": h2, "inbound": inbound}


def start_origin(ground, tls=None):
    return ground.start(proxies.origin(ground, tls), LOAD_CORE).port


def run(part, arguments):
    """Measures the cases of a part one after another, each with servers that have seen nothing before."""
    with Ground() as ground:
        title, reference, programs, cases = PARTS[part](ground, arguments)
        wanted = {name: make for name, make in programs.items() if name.split(",")[0] in [*arguments.proxies, "regent"]}
        results = Results(title, reference, [case for case in cases if arguments.only in case.name])
        for case in results.cases:
            started = {name: make for name, make in wanted.items() if name not in case.without}
            servers = {name: ground.start(make(), PROXY_CORE) for name, make in started.items()}
            if part == "h2" and not speaks_h2(servers["regent"].port):
                print("SKIPPED for regent: it does not take HTTP/2 by prior knowledge yet", file=sys.stderr)
                ground.stop(servers.pop("regent"))
            in_rounds(results, case, servers, arguments)
            for server in servers.values():
                ground.stop(server)
    return results


def in_rounds(results, case, servers, arguments):
    """Each proxy in each round, and each round begins with another one."""
    time.sleep(1)
    names = list(servers)
    for name, server in servers.items():
        results.rows[case.name, name] = Row(measure.memory(server.pid).pss)
        count, seconds = case.closed(server.port, WARM_UP)
        if name == results.reference and case.open:
            results.rates[case.name] = OF_MAXIMUM * count / seconds
    for turn in range(arguments.rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            row, server, rate = results.rows[case.name, name], servers[name], results.rates.get(case.name)
            loaded = measure.during(LOADED_AFTER, lambda: measure.memory(server.pid).pss)
            row.costs.append(measure.cost(server.pid, lambda: case.closed(server.port, arguments.seconds)))
            row.loaded.append(loaded())
            if rate:
                row.latencies.append(latencies(case.open(server.port, rate, arguments.seconds), rate))
        print(f"{results.title}; {case.name}: round {turn + 1} of {arguments.rounds}", file=sys.stderr)


def latencies(outcome, rate):
    """(p50, p99) in microseconds; `None` where the rate was too much."""
    assert set(outcome["answers"]) == {"200"}, outcome
    # What was due within the time and needed much longer than that is a queue that only grows.
    planned = outcome["answers"]["200"] / rate
    overloaded = outcome["broken"] or outcome["unsent"] or outcome["seconds"] > planned * 1.1 + 0.1
    return None if overloaded else (outcome["p50_us"], outcome["p99_us"])
