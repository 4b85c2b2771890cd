"""What a sidecar weighs and how soon it serves: start, size, idle memory, memory after very many requests."""

import socket
import ssl
import statistics
import subprocess
import sys
import time
from functools import partial

import h2
import measure
import proxies
import table
from ground import Ground
from keys import certificate, forged_token
from measure import all_ok

IDLERS = 1000
SETTLE = 2  # seconds
START_MS, SIZE_MIB, CONNECTIONS_MIB = 15, 10, 24  # the goals
GREW_KIB, GREW = 1024, 1.05  # growth within both is noise


class Sidecar:
    """Both sides of Regent before an nginx that answers, and what its callers say."""

    def __init__(self, ground, arguments, tls=None):
        self._ground, self._tls = ground, tls
        self._binary, self._tokens = arguments.regent, arguments.tokens
        self._key = ground.folder / "public.pem"
        self._key.write_text(self._tokens.key.pem())
        self.origin = ground.start(proxies.origin(ground)).port
        self.one = self._tokens.first(1, ground.folder / "one-token")
        self.thousand = self._tokens.first(1000, ground.folder / "thousand-tokens")

    def program(self, *sides):
        tables = {
            "outbound": lambda: proxies.outbound(self._ground, self.origin, forged_token()),
            "inbound": lambda: proxies.inbound(self.origin, f'public_key_file = "{self._key}"', tls=self._tls),
        }
        return proxies.regent(self._ground, self._binary, *(tables[side]() for side in sides))

    def head(self, port, path="1k", has_token=True):
        """A request; with a token either side takes it, and nginx too."""
        lines = [f"GET /{path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "User-Agent: bench", "Accept: */*"]
        lines += [f"Authorization: Bearer {self.one.read_text().strip()}"] if has_token else []
        return "\r\n".join([*lines, "", ""]).encode()


# --- Start and size ------------------------------------------------------------------------------


def startup(arguments):
    """From exec to the first answer with 200."""
    with Ground() as ground:
        sidecar = Sidecar(ground, arguments)
        programs = {
            "regent, outbound": lambda: sidecar.program("outbound"),
            "regent, inbound": lambda: sidecar.program("inbound"),
            "regent, both": lambda: sidecar.program("outbound", "inbound"),
            "nginx": partial(proxies.nginx, ground, sidecar.origin, {}),
        }
        took = {name: [] for name in programs}
        programs = {name: make() for name, make in programs.items()}
        for _ in range(arguments.starts):
            for name, program in programs.items():
                took[name].append(first_answer(ground, program, sidecar))
    lines = ["### Start and size", "", f"From exec to the first answer, {arguments.starts} starts of each.", ""]
    lines += table.head("", "median ms", "lowest to highest")
    for name, all_of_it in took.items():
        lines.append(table.line([name, f"{statistics.median(all_of_it):.1f}", table.spread(all_of_it, 1)]))
    size = arguments.regent.stat().st_size / 2**20
    slowest = max(statistics.median(took[name]) for name in took if name != "nginx")
    lines += ["", table.goal("From exec to serving", slowest, START_MS, " ms")]
    return [*lines, table.goal(f"The binary, {stripped(arguments.regent)}", size, SIZE_MIB, " MiB")]


def first_answer(ground, program, sidecar):
    """Milliseconds; each port must answer."""
    ports = {name: port for name, port in program.ports.items() if name != "admin"}
    began = time.perf_counter()
    command = [str(part) for part in program.command]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=ground.environment())
    try:
        for port in ports.values():
            while not answers(port, sidecar.head(port)):
                alive = process.poll() is None and time.perf_counter() < began + 20
                assert alive, f"{command} does not serve"
                time.sleep(0.0002)
        return (time.perf_counter() - began) * 1e3
    finally:
        process.terminate()
        process.wait(20)


def answers(port, head):
    with socket.socket() as client:
        if client.connect_ex(("127.0.0.1", port)):
            return False
        client.sendall(head)
        return client.recv(65536).startswith(b"HTTP/1.1 200")


def stripped(binary):
    out = subprocess.run(["file", "-b", binary], capture_output=True, text=True).stdout
    return "stripped" if "not stripped" not in out else "NOT stripped"


# --- Idle memory ---------------------------------------------------------------------------------


def memory(arguments):
    """Idle, and with a thousand connections that had one answer each."""
    lines = ["### Memory of a sidecar that has nothing to do", ""]
    lines += table.head("", "Regent: PSS MiB", "of it without a file", "nginx: PSS MiB", "of it without a file")
    seen = {}
    for state, connect in {"idle": None, "1,000 plain": plain, "1,000 TLS": tls, "1,000 HTTP/2": http2}.items():
        with Ground() as ground:
            pair = certificate(ground.folder) if connect is tls else None
            sidecar = Sidecar(ground, arguments, tls=pair)
            seen[state] = [
                with_idlers(ground, program, connect, sidecar)
                for program in (
                    sidecar.program("outbound", "inbound"),
                    proxies.nginx_both(ground, sidecar.origin, tls=pair, h2=connect is http2),
                )
            ]
        cells = [[table.mib(used.pss), table.mib(used.anon)] if used else ["SKIPPED", "no h2c"] for used in seen[state]]
        lines.append(table.line([state, *cells[0], *cells[1]]))
        print(f"memory: {state}", file=sys.stderr)
    regent, nginx = (used.pss / 1024 for used in seen["idle"])
    lines += ["", table.goal("Idle PSS beside nginx's (master and worker)", regent, nginx, " MiB")]
    with_plain = seen["1,000 plain"][0].pss / 1024
    return [*lines, table.goal("PSS with 1,000 idle plain connections", with_plain, CONNECTIONS_MIB, " MiB")]


def with_idlers(ground, program, connect, sidecar):
    """`None` where the server does not speak what is needed."""
    server = ground.start(program)
    port = server.ports["inbound" if connect is tls else "outbound"]
    if connect is http2 and not h2.speaks_h2(port):
        ground.stop(server)
        return None
    idlers = [connect(port, sidecar.head(port)) for _ in range(IDLERS if connect else 0)]
    time.sleep(SETTLE)
    used = measure.memory(server.pid)
    for client in idlers:
        client.close()
    ground.stop(server)
    return used


def plain(port, head):
    return ask(socket.create_connection(("127.0.0.1", port), timeout=10), head)


def tls(port, head):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return ask(context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=10)), head)


def http2(port, _head):
    client = h2.connect(port)
    h2.get(client, port, "/1k")
    return client


def ask(client, head):
    client.sendall(head)
    got = b""
    while len(got) < 1024 or b"\r\n\r\n" not in got or len(got.partition(b"\r\n\r\n")[2]) < 1024:
        data = client.recv(65536)
        assert data, "the connection was closed"
        got += data
    assert got.startswith(b"HTTP/1.1 200"), got[:200]
    return client


# --- Growth --------------------------------------------------------------------------------------


def growth(arguments):
    """PSS over very many requests, half of them to each side."""
    steps = 10
    share = max(arguments.requests // steps // 2, 1)
    with Ground() as ground:
        sidecar = Sidecar(ground, arguments)
        server = ground.start(sidecar.program("outbound", "inbound"), measure.PROXY_CORE)

        def some(count):
            for side, tokens in (("outbound", None), ("inbound", sidecar.thousand)):
                all_ok(measure.load(server.ports[side], "1k", 64, count=count, tokens=tokens))
            time.sleep(SETTLE)
            return measure.memory(server.pid)

        seen = [some(max(share // 4, 20_000))]
        for step in range(steps):
            seen.append(some(share))
            print(f"growth: {step + 1} of {steps}, {table.mib(seen[-1].pss)} MiB of PSS", file=sys.stderr)
    requests = 2 * share * steps
    lines = [f"### Memory over {requests:,} requests", ""]
    lines.append(f"PSS MiB after a warm-up, then after each tenth: {', '.join(table.mib(one.pss) for one in seen)}.")
    # The first tenths may still fill caches; growth is what goes on after them.
    early, late = (statistics.median(one.pss for one in some) for some in (seen[1:4], seen[-3:]))
    most = max(early * GREW, early + GREW_KIB) / 1024
    return [*lines, "", table.goal("Memory does not grow: the last tenths beside the first", late / 1024, most, " MiB")]


PARTS = {"startup": startup, "memory": memory, "growth": growth}
