"""How results are printed."""

import platform
import statistics
import subprocess
from datetime import date
from pathlib import Path

import needs


def traffic(results):
    """A row for each case and proxy, and what of the goals is held."""
    lines = [f"### {results.title}", ""]
    lines += head(
        "", "proxy", "CPU µs", "user + system", "lowest to highest", "Regent ÷ it", "requests/s of a core",
        "p50 µs", "p99 µs", "lowest to highest", "PSS MiB, idle", "loaded",
    )  # fmt: skip
    for (case, name), row in results.rows.items():
        total = column(row.costs, "cpu")
        user, system = (statistics.median(column(row.costs, part)) for part in ("user", "system"))
        cpu = statistics.median(total)
        regent = results.rows.get((case, "regent"))
        ratio = statistics.median(column(regent.costs, "cpu")) / cpu if regent else None
        rate = f" (at {results.rates[case]:,.0f}/s)" if row.latencies else ""
        cells = [case + rate, name, f"{cpu:.1f}", f"{user:.1f} + {system:.1f}", spread(total, 1)]
        cells += ["" if name == "regent" or not ratio else f"{ratio:.2f}", f"{1e6 / cpu:,.0f}"]
        lines.append(line([*cells, *latency(row), mib(row.idle), mib(statistics.median(row.loaded))]))
    return lines + [""] + [line for case in results.cases for line in goals(results, case)]


def latency(row):
    if not row.latencies:
        return ["", "", ""]
    kept = [one for one in row.latencies if one]
    if len(kept) <= len(row.latencies) / 2:
        return ["overloaded", "overloaded", ""]
    p50, p99 = zip(*kept)
    return [f"{statistics.median(p50):.0f}", f"{statistics.median(p99):.0f}", spread(p99, 0)]


def goals(results, case):
    regent = results.rows.get((case.name, "regent"))
    if not regent:
        yield f"- {case.name}: SKIPPED, this Regent has no HTTP/2 downstream"
        return
    for rival, most in case.goals.items():
        if other := results.rows.get((case.name, rival)):
            ratio = statistics.median(column(regent.costs, "cpu")) / statistics.median(column(other.costs, "cpu"))
            yield goal(f"{case.name}: CPU beside {rival}'s", ratio, most)
    for rival, most in case.p99_goals.items():
        if other := results.rows.get((case.name, rival)):
            own, its = (latency(row)[1] for row in (regent, other))
            ratio = float(own) / float(its) if "overloaded" not in (own, its) else None
            yield goal(f"{case.name}: p99 beside {rival}'s", ratio, most)


def goal(what, value, most, unit=""):
    if value is None:
        return f"- {what}: MISSED, it was overloaded"
    held = "held" if value <= most else "MISSED"
    return f"- {what}: {held}, {value:.2f}{unit} of at most {most:.2f}{unit}"


def column(costs, name):
    return [getattr(cost, name) for cost in costs]


def spread(values, digits):
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def mib(kib):
    return f"{kib / 1024:.1f}"


def head(*names):
    return [line(names), "|" + "---|" * len(names)]


def line(cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def machine(arguments):
    """Where the numbers are from."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((row.partition(":")[2].strip() for row in cpuinfo if row.startswith("model name")), "unknown")
    cores = sum(row.startswith("processor") for row in cpuinfo)
    others = Path("/proc/loadavg").read_text().split()[0]
    return [
        f"{date.today()}: {cores} cores of {model}, Linux {platform.release()}, load average {others} at the start.",
        f"{arguments.rounds} rounds, {arguments.seconds} s for each number of each.",
        f"Regent is {version(arguments.regent, '--version')}; the others are {version('nginx', '-v')},"
        f" {version('haproxy', '-v')} and Envoy {version(needs.envoy(), '--version')}.",
        "",
    ]


def version(program, flag):
    done = subprocess.run([program, flag], capture_output=True, text=True)
    said = (done.stdout + done.stderr).strip().splitlines()[0]
    if "envoy" in said:  # PROGRAM version: COMMIT/VERSION/...
        return said.split("/")[-4]
    return said.removeprefix("nginx version: ").split(" - ")[0]
