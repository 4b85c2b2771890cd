"""How both measure: CPU time of a proxy's threads over the requests that wrk counted."""

import re
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PROXY_CORE, LOAD_CORE = 0, 1


def arguments_of(parser):
    """What every measurement can be told."""
    parser.add_argument("--regent", type=Path, default="target/release/regent")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3, help="of load, per measurement")
    parser.add_argument("--connections", type=int, default=16)
    arguments = parser.parse_args()
    assert os.cpu_count() >= 2, "needs two cores"
    return arguments


def rounds(cases, names, proxies, load, arguments):
    """Samples by case and proxy, in interleaved rounds after a warm-up; `load(case, port, seconds)` is wrk's."""
    samples = {(case, name): [] for case in cases for name in names}
    for name in names:
        for case in cases:
            load(case, proxies[name][1], 1)
    for turn in range(arguments.rounds):
        for case in cases:
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                process, port = proxies[name]
                samples[case, name].append(measure(process.pid, lambda: load(case, port, arguments.seconds)))
        print(f"round {turn + 1} of {arguments.rounds}", file=sys.stderr)
    return samples


def measure(pid, load):
    """(CPU us, user us, system us, requests per second), each per request."""
    before = cpu(pid)
    requests, seconds = load()
    time.sleep(0.05)  # what is still being closed belongs to it
    total, user, system = (after - then for after, then in zip(cpu(pid), before))
    share = user / (user + system)
    each = total * 1e6 / requests
    return each, each * share, each * (1 - share), requests / seconds

def cpu(pid):
    """Seconds on a CPU, of the process with its threads and children: exact; and user, system by the tick."""
    total = user = system = 0
    for task in tasks(pid):
        total += int((task / "schedstat").read_text().split()[0]) / 1e9
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        user += int(fields[11]) / TICKS
        system += int(fields[12]) / TICKS
    return total, user, system


def tasks(pid):
    for task in Path(f"/proc/{pid}/task").iterdir():
        yield task
        for child in (task / "children").read_text().split():
            yield from tasks(child)


def wrk(port, path, seconds, connections, *more):
    """(requests, seconds) of a load without a failed request; `more` for wrk."""
    command = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    command += [*more, f"http://127.0.0.1:{port}/{path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    assert done.returncode == 0, done.stderr
    assert "Non-2xx" not in done.stdout and "Socket errors" not in done.stdout, done.stdout
    count, took = re.search(r"(\d+) requests in ([\d.]+)s", done.stdout).groups()
    return int(count), float(took)


def report(what, cases, names, samples, beside, arguments):
    how = f"{arguments.rounds} rounds of {arguments.seconds} s, {arguments.connections} connections, one core each"
    print(f"\nCPU microseconds per request, median ({how})\n")
    print(f"| {what} | proxy | CPU | user | system | lowest to highest | beside {beside} | requests/s |")
    print("|---|---|---|---|---|---|---|---|")
    for case in cases:
        other = statistics.median(sample[0] for sample in samples[case, beside])
        for name in names:
            all_of_it = [sample[0] for sample in samples[case, name]]
            cpu, user, system, rate = (statistics.median(column) for column in zip(*samples[case, name]))
            spread = f"{min(all_of_it):.1f} to {max(all_of_it):.1f}"
            cells = [case, name, f"{cpu:.1f}", f"{user:.1f}", f"{system:.1f}", spread, f"{cpu / other:.2f}", f"{rate:.0f}"]
            print("| " + " | ".join(cells) + " |")
