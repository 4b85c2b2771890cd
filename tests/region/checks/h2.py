"""HTTP/2 with both sides: real curl, and frames that no honest client sends.

A flood counts as held off only where its connection was told so, memory stayed as it was, little of it
reached the workload, and others were served meanwhile.
"""

import json
import resource
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
from hpack import Encoder
from hyperframe import frame as frames

from .inbound import bearing, before
from .place import PATIENCE, until
from .tls import Authority, mount, speaking_tls
from .workload import Workload, identity

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PROTOCOL_ERROR, CANCEL, ENHANCE_YOUR_CALM = 1, 8, 11
MIB = 1024 * 1024


def curl(port, *arguments, url=None):
    """Version, status and body."""
    command = ["curl", "-sS", "-w", "\n%{http_version} %{http_code}", *arguments]
    command.append(url or f"http://localhost:{port}/api/whoami")
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=PATIENCE)
    body, _, said = done.stdout.rpartition("\n")
    version, status = said.split()
    return version, int(status), body or done.stderr


def curl_speaks_http_2_with_both_sides(place):
    region, workload, authority = place.region(), Workload(place), Authority(place.folder / "ca")
    authority.issue(place.folder / "first")
    mount(place, place.folder / "first")
    token = region.login()["access"]
    header = ("-H", f"Authorization: Bearer {token}")

    outbound = place.regent("outbound", **{"region.url": region.api_url, "token": region.mint()}).start()
    until("a token", lambda: outbound.call().status == 200)
    plain = before(place, region, workload.url, "plain").start()
    secured = speaking_tls(place, region, workload, "secured").start()
    over_tls = ("--cacert", authority.file), f"https://localhost:{secured.port}/api/whoami"

    for version, flag in (("2", "--http2-prior-knowledge"), ("1.1", "--http1.1")):
        spoken, status, body = curl(outbound.port, flag)
        assert (spoken, status) == (version, 200) and json.loads(body)["username"] == "alice", body
        spoken, status, body = curl(plain.port, flag, *header)
        assert (spoken, status) == (version, 200), body
        assert identity(workload.only()["headers"])["x-regent-user"] == "alice"
        spoken, status, body = curl(plain.port, flag)
        assert (spoken, status, json.loads(body)["reason"]) == (version, 401, "missing_token")
    for version, flag in (("2", "--http2"), ("1.1", "--http1.1")):
        spoken, status, body = curl(None, flag, *header, *over_tls[0], url=over_tls[1])
        assert (spoken, status) == (version, 200), body
        assert identity(workload.only()["headers"])["x-regent-user"] == "alice"
    # A body of several windows.
    upload = place.folder / "upload"
    upload.write_bytes(b"x" * 3 * MIB)
    spoken, status, body = curl(plain.port, "--http2-prior-knowledge", *header, "--data-binary", f"@{upload}")
    assert (spoken, status) == ("2", 200), body
    assert workload.only()["body"] == upload.read_bytes()
    for regent in (outbound, plain, secured):
        regent.stop()


class Client:
    """An honest one, by the library."""

    def __init__(self, port):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._connection = H2Connection(H2Configuration(header_encoding="utf-8"))
        self._connection.initiate_connection()
        self._flush()

    def _flush(self):
        self._socket.sendall(self._connection.data_to_send())

    def begin(self, path, headers, method="GET", ends=True):
        stream = self._connection.get_next_available_stream_id()
        head = {":method": method, ":scheme": "http", ":path": path, ":authority": "localhost"} | headers
        self._connection.send_headers(stream, list(head.items()), end_stream=ends)
        self._flush()
        return stream

    def cancel(self, stream):
        self._connection.reset_stream(stream, CANCEL)
        self._flush()

    def ping(self):
        self._connection.ping(b"pingpong")
        self._flush()

    def answer(self, stream):
        """Status and body. Both windows are opened after every frame."""
        status, body = None, b""
        while True:
            data = self._socket.recv(65536)
            assert data, "the connection was cut"
            for event in self._connection.receive_data(data):
                if isinstance(event, DataReceived):
                    if event.flow_controlled_length:
                        self._connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    body += event.data if event.stream_id == stream else b""
                elif isinstance(event, ResponseReceived) and event.stream_id == stream:
                    status = int(dict(event.headers)[":status"])
                elif isinstance(event, (StreamEnded, StreamReset)) and event.stream_id == stream:
                    self._flush()
                    return status, body
            self._flush()

    def get(self, path, headers):
        return self.answer(self.begin(path, headers))


def settings(**values):
    ids = {"window": frames.SettingsFrame.INITIAL_WINDOW_SIZE}
    return frames.SettingsFrame(settings={ids[name]: value for name, value in values.items()}).serialize()


def headers(stream, extra=(), method="GET", flags=("END_STREAM", "END_HEADERS")):
    head = [(":method", method), (":scheme", "http"), (":path", "/api/x"), (":authority", "localhost"), *extra]
    # Every head by itself: no table, so that they may be made in any order.
    encoder = Encoder()
    encoder.header_table_size = 0
    return frames.HeadersFrame(stream, encoder.encode(head), flags=list(flags)).serialize()


def reset(stream):
    return frames.RstStreamFrame(stream, CANCEL).serialize()


def window(stream, by):
    return frames.WindowUpdateFrame(stream, by).serialize()


class Attack:
    """A connection that sends `pieces` until it is closed, and reads what comes."""

    def __init__(self, port, *first):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._socket.sendall(PREFACE + b"".join(first or [settings()]))
        self.codes = []
        self.kinds = {}
        self.data = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        came = b""
        try:
            while data := self._socket.recv(65536):
                came += data
                while len(came) >= 9:
                    length = int.from_bytes(came[:3], "big")
                    if len(came) < 9 + length:
                        break
                    kind, payload, came = came[3], came[9 : 9 + length], came[9 + length :]
                    self.kinds[kind] = self.kinds.get(kind, 0) + 1
                    if kind == 0:
                        self.data += length
                    if kind == 7:
                        self.codes.append(int.from_bytes(payload[4:8], "big"))
        except OSError:
            pass

    def send(self, pieces):
        """How many of them went out."""
        sent = 0
        try:
            for piece in pieces:
                self._socket.sendall(piece)
                sent += 1
        except OSError:
            pass
        return sent

    def told(self):
        """The code of its GOAWAY, once the connection has ended."""
        self._reader.join(PATIENCE)
        assert not self._reader.is_alive(), "it was never ended"
        return self.codes[-1] if self.codes else None

    def close(self):
        # The reader holds it open.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def odd(count):
    return range(1, 2 * count, 2)


def bomb():
    """4 KB that unpack to megabytes: one field is put into the table, and named again and again."""
    encoder = Encoder()
    block = encoder.encode([(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "localhost")])
    block += b"\x40" + b"\x01x" + b"\x7f\xad\x1a" + b"y" * 3500 + b"\xbe" * 500
    return frames.HeadersFrame(1, block, flags=["END_STREAM", "END_HEADERS"]).serialize()


def floods(bearer):
    """By name: what goes before, and what is sent until it is enough."""
    given_up = (headers(stream, bearer) + reset(stream) for stream in odd(100_000))
    overflow = (headers(stream, bearer) + window(stream, 2**31 - 1) for stream in odd(100_000))
    nothing = (headers(stream, bearer) + frames.WindowUpdateFrame(stream, 1).serialize()[:-1] + b"\0"
               for stream in odd(100_000))
    begun = headers(1, bearer, flags=["END_STREAM"])
    more = frames.ContinuationFrame(1, Encoder().encode([("x", "y")])).serialize()
    large = (b"".join(split(stream)) for stream in odd(20_000))
    posting = headers(1, bearer, "POST", ["END_HEADERS"])
    empty = frames.DataFrame(1, b"").serialize()
    priority = frames.PriorityFrame(1, depends_on=0, stream_weight=7, exclusive=False).serialize()
    many = 1_000_000
    return {
        "rapid reset": (b"", given_up),
        "windows that overflow": (b"", overflow),
        "windows that open by nothing": (b"", nothing),
        "continuations": (begun, (more for _ in range(many))),
        "a bomb": (b"", (bomb() for _ in range(100))),
        "heads beyond the limit": (b"", large),
        "pings": (b"", (frames.PingFrame(0, b"pingpong").serialize() for _ in range(many))),
        "settings": (b"", (settings(window=65_535) for _ in range(many))),
        "priorities": (b"", (priority for _ in range(many))),
        "small windows": (b"", (window(0, 1) for _ in range(many))),
        "empty data": (posting, (empty for _ in range(many))),
        "resets of one stream": (headers(1, bearer), (reset(1) for _ in range(many))),
    }


def split(stream):
    """A head of 80 KB, in frames."""
    encoder = Encoder()
    encoder.header_table_size = 0
    head = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "localhost")]
    block = encoder.encode([*head, *((f"x-{at}", "~" * 8000) for at in range(10))])
    parts = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
    yield frames.HeadersFrame(stream, parts[0], flags=["END_STREAM"]).serialize()
    for part in parts[1:-1]:
        yield frames.ContinuationFrame(stream, part).serialize()
    yield frames.ContinuationFrame(stream, parts[-1], flags=["END_HEADERS"]).serialize()


class Watch:
    """What a process costs meanwhile."""

    def __init__(self, pid):
        self._proc = Path(f"/proc/{pid}")
        # The peak of its memory, from here on.
        (self._proc / "clear_refs").write_text("5")
        self._memory, self._cpu = self._status("VmRSS"), self._seconds()

    def _status(self, name):
        lines = (self._proc / "status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))

    def _seconds(self):
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def grown(self):
        """The peak above what there was. Bytes."""
        return self._status("VmHWM") - self._memory

    def seconds(self):
        return self._seconds() - self._cpu


def forsaken(place):
    """A workload whose callers leave before it has answered."""
    workload = Workload(place)
    workload.server.handle_error = lambda *_: None
    return workload


def floods_end_early_and_cost_nobody_anything(place):
    region, workload = place.region(), forsaken(place)
    quiet = {"log.level": "info", "log.access": False}
    regent = before(place, region, workload.url, **quiet).start()
    token = region.login()["access"]
    bearer = list(bearing(token).items())
    honest = Client(regent.port)
    for _ in range(50):
        assert honest.get("/api/x", bearing(token))[0] == 200
    said = []
    for name, (first, pieces) in floods(bearer).items():
        workload.seen.clear()
        refused = regent.metrics("regent_refused_total")
        watch, began = Watch(regent.process.pid), time.monotonic()
        attack = Attack(regent.port, settings(), first)
        sent = attack.send(pieces)
        told = attack.told()
        took = time.monotonic() - began
        assert told in (ENHANCE_YOUR_CALM, PROTOCOL_ERROR), f"{name}: {told} after {sent}\n{regent.tail()}"
        grown, seconds, reached = watch.grown(), watch.seconds(), len(workload.seen)
        assert grown < 6 * MIB, f"{name}: {grown} bytes more"
        assert seconds < 1, f"{name}: {seconds} s of CPU"
        assert reached < 1500, f"{name}: {reached} requests reached the workload"
        assert regent.metrics("regent_refused_total") != refused, f"{name}: nothing was counted"
        assert honest.get("/api/x", bearing(token))[0] == 200, name
        said.append(f"{name}: {sent} pieces, {took:.2f} s, {seconds:.2f} s of CPU, {reached} requests, {grown // 1024} KiB")
    regent.stop()
    return "; ".join(said)


class Large:
    """Answers a megabyte to everything, as fast as it is taken."""

    def __init__(self, place):
        self.port = place.port()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.send_response(200)
                self.send_header("content-length", str(MIB))
                self.end_headers()
                self.wfile.write(b"x" * MIB)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 1024

            def handle_error(self, *_):
                pass

        server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()


def callers_that_take_nothing_hold_little_and_others_are_served(place):
    region, large = place.region(), Large(place)
    quiet = {"log.level": "info", "log.access": False}
    regent = before(place, region, f"http://127.0.0.1:{large.port}", **quiet).start()
    token = region.login()["access"]
    bearer = list(bearing(token).items())
    assert Client(regent.port).get("/api/x", bearing(token)) == (200, b"x" * MIB)
    watch = Watch(regent.process.pid)
    stalled = []
    for _ in range(10):
        attack = Attack(regent.port, settings(window=0), window(0, 2**30))
        attack.send(headers(stream, bearer) for stream in odd(100))
        stalled.append(attack)
    until("1000 heads", lambda: sum(attack.kinds.get(1, 0) for attack in stalled) == 1000)
    none = watch.grown() / 1000
    assert none < 96 * 1024, f"{none} bytes for each stream without a window"
    # A little of each, so that h2 has begun with it.
    for attack in stalled:
        attack.send(window(stream, 1) for stream in odd(100))
    until("1000 bytes", lambda: sum(attack.kinds.get(0, 0) for attack in stalled) == 1000)
    some = watch.grown() / 1000
    assert some < 160 * 1024, f"{some} bytes for each stream with a small window"
    client = Client(regent.port)
    for _ in range(50):
        assert client.get("/api/x", bearing(token)) == (200, b"x" * MIB)
    # Much of it at once: what is read from the workload at a time has grown by then.
    before_it = watch.grown()
    stalled[0].send(window(stream, 600_000) for stream in odd(100))
    until("600 KB of each", lambda: stalled[0].data == 100 * 600_001)
    much = (watch.grown() - before_it) / 100
    assert much < 256 * 1024, f"{much} bytes for each stream that took much"
    for attack in stalled:
        attack.close()
    until("all are gone", lambda: regent.metrics("regent_connections")['side="inbound"'] < 3)
    regent.stop()
    return f"{none / 1024:.0f}, {some / 1024:.0f}, {much / 1024:.0f} KiB for each stream"


def honest_callers_are_never_taken_for_a_flood(place):
    region, large, workload = place.region(), Large(place), forsaken(place)
    quiet = {"log.level": "info", "log.access": False}
    regent = before(place, region, f"http://127.0.0.1:{large.port}", **quiet).start()
    token = bearing(region.login()["access"])
    client = Client(regent.port)
    # Many windows, by the library's own rule and by one for every frame.
    for _ in range(50):
        assert client.get("/api/x", token) == (200, b"x" * MIB)
    regent.stop()
    regent = before(place, region, workload.url, "small", **quiet).start()
    client = Client(regent.port)
    for _ in range(500):
        given_up = client.begin("/api/x", token)
        client.cancel(given_up)
        client.ping()
        assert client.get("/api/x", token)[0] == 200
    assert regent.metrics("regent_refused_total").get('side="inbound",reason="overloaded",enforced="true"', 0) == 0
    regent.stop()


def streams_stay_within_the_limit_on_open_files(place):
    region, large = place.region(), Large(place)
    quiet = {"log.level": "info", "log.access": False}
    regent = before(place, region, f"http://127.0.0.1:{large.port}", **quiet)
    few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))  # noqa: E731
    regent.start(preexec_fn=few)
    token = region.login()["access"]
    bearer = list(bearing(token).items())
    attacks = [Attack(regent.port, settings(window=0), window(0, 2**30)) for _ in range(4)]
    for attack in attacks:
        attack.send(headers(stream, bearer) for stream in odd(90))
    until("360 answers", lambda: sum(attack.kinds.get(1, 0) for attack in attacks) == 360)
    refused = regent.metrics("regent_refused_total").get('side="inbound",reason="overloaded",enforced="true"', 0)
    assert 250 < refused < 350, refused
    open_files = len(list(Path(f"/proc/{regent.process.pid}/fd").iterdir()))
    assert open_files < 150, open_files
    failed = regent.metrics("regent_upstream_failures_total")
    assert not any(failed.values()), failed
    for attack in attacks:
        attack.close()
    until("room again", lambda: Client(regent.port).get("/api/x", bearing(token))[0] == 200)
    regent.stop()


def a_target_that_is_none_is_not_written_down(place):
    region, workload = place.region(), Workload(place)
    regent = before(place, region, workload.url).start()
    attack = Attack(regent.port)
    block = Encoder().encode([(":method", "GET"), (":scheme", "http"), (":path", "/a b?secret=hush"),
                              (":authority", "localhost")])
    attack.send([frames.HeadersFrame(1, block, flags=["END_STREAM", "END_HEADERS"]).serialize()])
    until("a reset", lambda: attack.kinds.get(3))
    attack.close()
    regent.stop()
    assert "PROTOCOL_ERROR" in regent.log() and "hush" not in regent.log()
    workload.nothing()


CHECKS = [
    floods_end_early_and_cost_nobody_anything,
    callers_that_take_nothing_hold_little_and_others_are_served,
    honest_callers_are_never_taken_for_a_flood,
    streams_stay_within_the_limit_on_open_files,
    curl_speaks_http_2_with_both_sides,
    a_target_that_is_none_is_not_written_down,
]
