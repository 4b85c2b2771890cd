"""What is measured of a server: CPU time by request, latency at a fixed rate, memory."""

import json
import os
import re
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import needs

TICKS = os.sysconf("SC_CLK_TCK")
PROXY_CORE, LOAD_CORE = 0, 1


@dataclass
class Cost:
    """CPU microseconds of one request."""

    cpu: float
    user: float
    system: float
    rate: float  # requests per second that were reached


def cost(pid, load):
    """What a load costs a server; `load()` returns how many requests, in how many seconds."""
    before = cpu(pid)
    requests, seconds = load()
    time.sleep(0.05)  # what is still being closed belongs to it
    total, user, system = (after - then for after, then in zip(cpu(pid), before))
    each, share = total * 1e6 / requests, user / max(user + system, 1 / TICKS)
    return Cost(each, each * share, each * (1 - share), requests / seconds)


def cpu(pid):
    """Seconds on a CPU, of the process with its threads and children: exact; and user, system by the tick."""
    total = user = system = 0
    for process in family(pid):
        for task in Path(f"/proc/{process}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0]) / 1e9
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            user += int(fields[11]) / TICKS
            system += int(fields[12]) / TICKS
    return total, user, system


@dataclass
class Memory:
    """KiB. What is shared with others counts by its share in `pss`; `anon` is the part without a file."""

    pss: int
    anon: int
    rss: int


def memory(pid):
    """Of the process and its children."""
    found = {"Pss": 0, "Pss_Anon": 0, "Rss": 0}
    for process in family(pid):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in found:
                found[name] += int(rest.split()[0])
    return Memory(*found.values())


def family(pid):
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(child)


def files(pid):
    """How many files are open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def during(seconds, look):
    """Starts a look after these seconds, beside what else is done; call the result for what it saw."""
    seen = []
    timer = threading.Timer(seconds, lambda: seen.append(look()))
    timer.start()

    def result():
        timer.join()
        return seen[0]

    return result


# --- Loads ---------------------------------------------------------------------------------------


def wrk(port, path, seconds, connections):
    """(requests, seconds) of as many requests as the server takes; none failed."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"http://127.0.0.1:{port}/{path}"]
    out = on_the_load_core(command, seconds)
    assert "Non-2xx" not in out and "Socket errors" not in out, out
    count, took = re.search(r"(\d+) requests in ([\d.]+)s", out).groups()
    return int(count), float(took)


def h2load(port, path, seconds, connections, streams):
    """The same over HTTP/2 by prior knowledge."""
    command = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", f"http://127.0.0.1:{port}/{path}"]
    out = on_the_load_core(command, seconds)
    fields = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", out)
    assert fields, out
    done, succeeded, failed, errored = map(int, fields.groups())
    assert done == succeeded > 0 and failed == errored == 0, out
    return done, seconds


def load(port, path, connections, *, rate=None, seconds=None, count=None, tokens=None, start=0, core=LOAD_CORE):
    """The bench's own: at a rate, or as many as the server takes; see `load/`. Returns what it prints."""
    command = [needs.LOAD, "--port", port, "--path", f"/{path}", "--connections", connections]
    for name, value in {"rate": rate, "seconds": seconds, "count": count, "tokens": tokens}.items():
        command += [f"--{name}", value] if value is not None else []
    command += ["--from", start] if tokens else []
    return json.loads(on_the_load_core(command, seconds or 600, core))


def all_ok(outcome):
    """(requests, seconds) of a load in which every request was answered with 200."""
    answers = outcome["answers"]
    assert set(answers) == {"200"} and not outcome["broken"] and not outcome["unsent"], outcome
    return answers["200"], outcome["seconds"]


def on_the_load_core(command, seconds, core=LOAD_CORE):
    pinned = ["taskset", "-c", str(core)] if core is not None else []
    command = pinned + [str(part) for part in command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
