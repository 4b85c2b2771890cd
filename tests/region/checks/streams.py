"""Streams and their token: `websockets`, events and slow downloads under both settings of `stream_lifetime`."""

import http.client
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve

from .inbound import before, bearing
from .place import PATIENCE
from .sdk import claims

LIFETIME = 5
# How long a stream that its token does not end is watched beyond it.
BEYOND = 3
# As fast as the workload sends.
EVERY = 0.05


class Workload:
    """Echoes WebSocket messages, and sends events or a download for as long as somebody listens."""

    def __init__(self, place):
        self.codes = []
        self.sockets = serve(self._echo, "127.0.0.1", place.port())
        self.answers = ThreadingHTTPServer(("127.0.0.1", place.port()), Endless)
        self.answers.daemon_threads = True
        for server in (self.sockets, self.answers):
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def _echo(self, connection):
        try:
            for message in connection:
                connection.send(message)
        except ConnectionClosed:
            pass
        self.codes.append(connection.close_code)

    def url(self, of):
        server = self.sockets.socket if of == "websocket" else self.answers.socket
        return f"http://127.0.0.1:{server.getsockname()[1]}"


class Endless(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        kind = "text/event-stream" if self.path == "/events" else "application/octet-stream"
        self.send_response(200)
        self.send_header("content-type", kind)
        if length := self.path == "/download":
            self.send_header("content-length", str(10**9))
        else:
            self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        piece = b"data: something\n\n"
        try:
            while True:
                self.wfile.write(piece if length else b"%x\r\n%s\r\n" % (len(piece), piece))
                time.sleep(EVERY)
        except OSError:
            self.close_connection = True

    def log_message(self, *_):
        pass


def websocket(regent, token, until):
    """When it ended, and how: the code, or that it lived."""
    with connect(f"ws://127.0.0.1:{regent.port}/chat", additional_headers=bearing(token)) as connection:
        try:
            while time.time() < until:
                connection.send("hello")
                assert connection.recv(timeout=PATIENCE) == "hello"
                time.sleep(EVERY)
            return time.time(), "lives"
        except ConnectionClosed:
            return time.time(), connection.close_code


def answer(path):
    def listen(regent, token, until):
        connection = http.client.HTTPConnection("127.0.0.1", regent.port, timeout=PATIENCE)
        connection.request("GET", path, headers=bearing(token))
        response = connection.getresponse()
        assert response.status == 200, response.status
        try:
            while time.time() < until:
                if not response.read1():
                    # Python takes a length that was not reached for an end like any other.
                    return time.time(), "whole" if not response.length else "cut"
            return time.time(), "lives"
        except (http.client.IncompleteRead, ConnectionError):
            return time.time(), "cut"
        finally:
            connection.close()

    return listen


# What listens, where, and how it ends with its token.
STREAMS = {
    "websocket": (websocket, 1008),
    "events": (answer("/events"), "whole"),
    "chunks": (answer("/chunks"), "cut"),
    "download": (answer("/download"), "cut"),
}


def streams_end_with_their_token_or_outlive_it(place):
    region, workload = place.region(access_seconds=LIFETIME), Workload(place)
    late, failed = {}, []

    def listen(regent, lifetime, kind, stream, ending):
        try:
            token = region.login()["access"]
            over = claims(token)["exp"]
            if lifetime == "unlimited":
                _, how = stream(regent, token, over + BEYOND)
                assert how == "lives", (kind, how)
                return
            ended, how = stream(regent, token, over + PATIENCE)
            assert how == ending, (kind, how)
            # How late is told, not judged: the machine may be busy.
            late[kind] = ended - over
            assert late[kind] >= 0, (kind, late[kind])
        except Exception as error:
            failed.append(f"{lifetime} {kind}: {error!r}")

    threads, regents = [], []
    for lifetime in ("token", "unlimited"):
        for kind, (stream, ending) in STREAMS.items():
            config = {"inbound.stream_lifetime": lifetime, "inbound.issuers.home.leeway": "0s"}
            regent = before(place, region, workload.url(kind), f"{lifetime}-{kind}", **config).start()
            regents.append(regent)
            arguments = (regent, lifetime, kind, stream, ending)
            threads.append(threading.Thread(target=listen, args=arguments, daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not failed, failed
    assert late.keys() == STREAMS.keys(), late
    # The workload was told too; the other one's client left by itself.
    assert sorted(workload.codes) == [1000, 1008], workload.codes
    for regent in regents:
        regent.stop()
    return "ended after their token: " + ", ".join(f"{kind} {by * 1000:.0f} ms" for kind, by in late.items())


CHECKS = [streams_end_with_their_token_or_outlive_it]
