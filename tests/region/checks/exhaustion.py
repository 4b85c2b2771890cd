"""Callers that wear the sidecar out: slowhttptest while others work, and more callers than descriptors or memory."""

import asyncio
import csv
import os
import re
import resource
import signal
import socket
import statistics
import threading
import time
from http.client import HTTPResponse

from .http import Load, call
from .inbound import before, bearing
from .place import PATIENCE, until
from .rotation import no_failures, regent_for

# What slow callers get, so that a check need not wait for the defaults. Seconds.
LIMIT = 3
# What their use of the same processors may cost others. Milliseconds.
NOISE = 500
SLOW = 1000
MIB = 1024 * 1024


class Workload:
    """Thousands of connections at once; `/big` is an answer that fills every buffer there is."""

    def __init__(self, place):
        self.port = place.port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.open = 0
        listens = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve(listens)), daemon=True).start()
        assert listens.wait(PATIENCE)

    async def _serve(self, listens):
        async with await asyncio.start_server(self._connected, "127.0.0.1", self.port, backlog=4096) as server:
            listens.set()
            await server.serve_forever()

    async def _connected(self, reader, writer):
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if length := re.search(rb"\ncontent-length: (\d+)", head, re.IGNORECASE):
                    await reader.readexactly(int(length[1]))
                pieces, piece = (1000, b"x" * 30_000) if b" /big" in head else (1, b"ok")
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (pieces * len(piece)))
                for _ in range(pieces):
                    writer.write(piece)
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()


def cpu(regent):
    """Seconds of the processor that it has used."""
    fields = open(f"/proc/{regent.process.pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def status(regent, name):
    """A number of `/proc/PID/status`: KiB."""
    return int(re.search(rf"{name}:\s+(\d+)", open(f"/proc/{regent.process.pid}/status").read())[1])


def descriptors(regent):
    return len(os.listdir(f"/proc/{regent.process.pid}/fd"))


def slowhttptest(place, regent, mode, path, *more):
    """1,000 slow callers, until we have ended the last of them; how many there were at once."""
    prefix, log = place.folder / f"slow-{mode}", place.folder / f"slow-{mode}.log"
    command = ["slowhttptest", f"-{mode}", "-g", "-o", prefix, "-c", SLOW, "-r", 500, "-l", PATIENCE, "-i", 10, "-p", 60]
    url = f"http://127.0.0.1:{regent.port}{path}"
    process = place.spawn([*command, *more, "-u", url], {"PATH": os.environ["PATH"]}, log)
    if mode == "X":
        # It has not read what came before the end, so it does not know of that.
        until("many that do not read", lambda: connections(regent) > SLOW / 2)
        until("the last of them to be cut", lambda: connections(regent) < SLOW / 100)
        assert process.poll() is None, "they have left by themselves"
        process.send_signal(signal.SIGINT)
    process.wait(2 * PATIENCE)
    place.ended(process)
    # Otherwise it has given up first.
    assert mode == "X" or "No open connections left" in log.read_text(), log.read_text()[-1000:]
    with open(f"{prefix}.csv") as file:
        return max(int(row["Connected"] or 0) for row in csv.DictReader(file))


def connections(regent):
    return regent.metrics("regent_connections")['side="inbound"']


class Timed(Load):
    """A load that remembers how long each answer took. Milliseconds."""

    def __post_init__(self):
        super().__post_init__()
        self.took = []
        self.on_answer = lambda answer: self.took.append((answer.ended - answer.began) * 1000)

    def p99(self):
        took, self.took = self.took, []
        return statistics.quantiles(took, n=100)[98]


def a_thousand_slow_callers_end_and_nobody_else_notices(place):
    workload = Workload(place)
    region = place.region()
    limits = {"limits.header_timeout": f"{LIMIT}s", "limits.idle_timeout": f"{LIMIT}s", "log.level": "info"}
    rules = {"inbound.rules": [{"path": "/slow", "anonymous": True}, {"path": "/big", "anonymous": True}]}
    regent = before(place, region, workload.url, **limits, **rules, **{"log.access": False}).start()
    token = region.login()["access"]
    told = []
    with Timed(regent.port, headers=bearing(token)) as load:
        time.sleep(5)
        before_them = load.p99()
        told.append(f"p99 before {before_them:.1f} ms")
        for mode, path, more in [
            ("H", "/slow", []),
            ("B", "/slow", []),
            ("X", "/big", ["-w", 1, "-y", 1, "-n", 10, "-z", 1]),
        ]:
            began = time.monotonic()
            most = slowhttptest(place, regent, mode, path, *more)
            took, p99 = time.monotonic() - began, load.p99()
            told.append(f"-{mode} {most} at once, over after {took:.0f} s, p99 {p99:.1f} ms")
            # With the others the workload, which is this process, has as much to do with them.
            assert mode != "H" or p99 < max(2 * before_them, NOISE), "; ".join(told)
            until("the slow ones to be gone", lambda: connections(regent) <= load.threads)
            until("theirs to the workload to be gone", lambda: workload.open <= 300)
    no_failures(load)
    peak = status(regent, "VmHWM") // 1024
    assert peak < 256, f"{peak} MiB for {SLOW} slow callers"
    timeouts = regent.metrics("regent_refused_total")['side="inbound",reason="timeout",enforced="true"']
    # Slow heads and slow bodies have their answer; whoever does not read has none.
    assert timeouts >= SLOW, timeouts
    size = regent.log_file.stat().st_size
    assert size < MIB, f"a log of {size} bytes"
    regent.stop()
    return "; ".join([*told, f"peak {peak} MiB"])


def hold(regent, count, request=b"GET /api/whoami HTTP/1.1\r\nhost: localhost\r\n\r\n"):
    """Callers that have said what they want, and stay."""
    callers = []
    for _ in range(count):
        callers.append(socket.create_connection(("127.0.0.1", regent.port), PATIENCE))
        callers[-1].sendall(request)
    return callers


def answered(caller):
    """The status of an answer, which is read to its end: it may come in several pieces."""
    with HTTPResponse(caller) as response:
        response.begin()
        response.read()
        return response.status


def with_few_descriptors_callers_wait_and_the_token_is_refreshed(place):
    few, many = 64, 500
    region, workload = place.region(access_seconds=8), Workload(place)
    # Two upstreams, each of which may have as many idle connections as there are callers.
    routes = [{"path": "/api"}, {"path": "/other", "upstream": workload.url, "token": "none"}]
    regent = regent_for(place, region, token=region.mint(), **{"log.level": "info", "outbound.routes": routes})

    def limited():
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, few))

    regent.start(preexec_fn=limited)
    regent.served()
    callers = hold(regent, many)
    for caller in callers[:10]:
        assert answered(caller) == 200
        caller.sendall(b"GET /other HTTP/1.1\r\nhost: localhost\r\n\r\n")
    for caller in callers[:10]:
        assert answered(caller) == 200
    before, used, began = region.refreshes(), cpu(regent), time.monotonic()
    most = 0
    for _ in range(50):
        time.sleep(0.1)
        most = max(most, descriptors(regent))
        assert regent.admin("/livez").status == 200
    share = (cpu(regent) - used) / (time.monotonic() - began)
    assert share < 0.2, f"{share:.0%} of a processor with nothing to do"
    until("refreshes while all places are taken", lambda: region.refreshes() >= before + 2)
    assert most <= few - 6, f"{most} of {few} descriptors"
    # Those who wait are served when others leave.
    for caller in callers[:-20]:
        caller.close()
    for caller in callers[-20:]:
        caller.settimeout(PATIENCE)
        assert caller.recv(12) == b"HTTP/1.1 200"
        caller.close()
    regent.served()
    assert "can be accepted" not in regent.log(), "it is not by its errors that it knows its limits"
    regent.stop()
    return f"{many} callers, {most} of {few} descriptors, {share:.1%} of a processor"


def with_little_memory_it_sheds_callers_and_lives(place):
    """RLIMIT_DATA: what the process writes to, its stacks among it. Beyond it an allocation fails, and it would end."""
    workload = Workload(place)
    region = place.region()
    regent = regent_for(place, region, token=region.mint(), **{"outbound.upstream": workload.url, "log.level": "info"})

    def limited():
        resource.setrlimit(resource.RLIMIT_DATA, (128 * MIB, 128 * MIB))

    regent.start(preexec_fn=limited)
    assert regent.call(path="/").status == 200
    # Bodies of which the last byte is missing, kept for a replay: as much as a caller can cost.
    body = b"x" * 65_000
    request = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 65001\r\n\r\n" + body
    callers = hold(regent, 1200, request)
    time.sleep(2)
    assert regent.process.poll() is None, f"it ended: {regent.tail()}"
    assert regent.admin("/livez").status == 200
    peak = status(regent, "VmHWM") // 1024
    for caller in callers:
        caller.close()
    assert regent.call(path="/").status == 200
    regent.stop()
    return f"1,200 callers, {peak} MiB"


CHECKS = [
    a_thousand_slow_callers_end_and_nobody_else_notices,
    with_few_descriptors_callers_wait_and_the_token_is_refreshed,
    with_little_memory_it_sheds_callers_and_lives,
]
