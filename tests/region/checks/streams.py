"""Streams and their token: `websockets`, events and slow downloads under both settings of `stream_lifetime`.

And WebSockets with much to carry, with nothing to carry, and with an end that nobody announced.
"""

import base64
import hashlib
import http.client
import os
import re
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve

from .inbound import before, bearing
from .place import PATIENCE, until
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
        self.sockets = serve(self._echo, "127.0.0.1", place.port(), compression=None, max_size=None)
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
    until("both ends of the WebSockets", lambda: sorted(workload.codes) == [1000, 1008])
    for regent in regents:
        regent.stop()
    return "ended after their token: " + ", ".join(f"{kind} {by * 1000:.0f} ms" for kind, by in late.items())


FRAMES = 100_000
PIECE = 1 << 20
PIECES = 1024
# What a gigabyte may cost. KiB.
MOST_KIB = 16 * 1024


def peak(regent):
    """The most memory that it ever had. KiB."""
    text = open(f"/proc/{regent.process.pid}/status").read()
    return int(re.search(r"VmHWM:\s+(\d+)", text)[1])


def frames(connection):
    """Many small ones: sent by one thread, and read by another as they come back."""
    failed = []

    def send():
        try:
            for at in range(FRAMES):
                connection.send(str(at))
        except Exception as error:
            failed.append(error)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    for at in range(FRAMES):
        assert connection.recv(timeout=PATIENCE) == str(at), at
    sender.join(PATIENCE)
    assert not failed, failed


def gibibyte(connection):
    """There and back, in pieces that are told apart."""
    piece = os.urandom(PIECE)
    for at in range(PIECES):
        sent = struct.pack(">I", at) + piece[4:]
        connection.send(sent)
        assert connection.recv(timeout=PATIENCE) == sent, at


class Plain:
    """An end of a tunnel, either one: a socket after the handshake of a WebSocket, whose bytes are nobody's."""

    def __init__(self, connection):
        self.socket = connection
        connection.settimeout(PATIENCE)

    def head(self):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.socket.recv(1)
            assert byte, head
            head += byte
        return head

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def rest(self):
        """What comes until the end; a reset is one too."""
        came = b""
        try:
            while piece := self.socket.recv(65536):
                came += piece
        except ConnectionError:
            pass
        return came


def tunnel(regent, listener, token):
    """Both ends."""
    key = base64.b64encode(os.urandom(16)).decode()
    below = Plain(socket.create_connection(("127.0.0.1", regent.port), PATIENCE))
    fields = ["Host: localhost", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    fields += [f"Sec-WebSocket-Key: {key}", f"Authorization: Bearer {token}"]
    below.socket.sendall("\r\n".join(["GET /chat HTTP/1.1", *fields, "", ""]).encode())
    above = Plain(listener.accept()[0])
    assert b"upgrade: websocket" in above.head().lower()
    accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
    answer = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket"]
    above.socket.sendall("\r\n".join([*answer, f"Sec-WebSocket-Accept: {accept}", "", ""]).encode())
    assert below.head().startswith(b"HTTP/1.1 101")
    return below, above


def websockets_carry_a_gibibyte_idle_and_end_with_either_side(place):
    region, workload = place.region(), Workload(place)
    # Idle for longer than a connection without a request may be.
    config = {"limits.idle_timeout": "1s", "log.level": "info"}
    regent = before(place, region, workload.url("websocket"), **config).start()
    token = region.login()["access"]
    told = []
    with connect(
        f"ws://127.0.0.1:{regent.port}/chat", additional_headers=bearing(token), compression=None, max_size=None,
        ping_interval=None,
    ) as connection:
        connection.send("hello")
        assert connection.recv(timeout=PATIENCE) == "hello"
        at_first = peak(regent)
        for carry in (frames, gibibyte):
            began = time.monotonic()
            carry(connection)
            told.append(f"{carry.__name__} {time.monotonic() - began:.0f} s")
        grown = peak(regent) - at_first
        assert grown < MOST_KIB, f"{grown} KiB for a gibibyte"
        time.sleep(4)
        assert connection.ping().wait(PATIENCE), "a ping after a long silence"
        connection.send("still there")
        assert connection.recv(timeout=PATIENCE) == "still there"
    until("the workload's close", lambda: workload.codes == [1000])
    regent.stop()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        regent = before(place, region, f"http://127.0.0.1:{listener.getsockname()[1]}", "ends", **config).start()
        for first, second in [("below", "above"), ("above", "below")]:
            ends = dict(zip(("below", "above"), tunnel(regent, listener, token)))
            one, other = ends[first], ends[second]
            # Half closed: what the other side has to say still comes.
            one.socket.sendall(b"the last")
            one.socket.shutdown(socket.SHUT_WR)
            assert other.rest() == b"the last"
            time.sleep(2)
            other.socket.sendall(b"an answer")
            other.socket.close()
            assert one.rest() == b"an answer", first
            # Reset: the other side is told, be it idle or in the middle of something.
            for busy in (False, True):
                ends = dict(zip(("below", "above"), tunnel(regent, listener, token)))
                one, other = ends[first], ends[second]
                one.socket.sendall(b"hello")
                assert other.socket.recv(5) == b"hello"
                if busy:
                    one.socket.sendall(b"x" * 100_000)
                began = time.monotonic()
                one.reset()
                other.rest()
                told.append(f"a reset {first} is an end {second} after {(time.monotonic() - began) * 1000:.0f} ms")
                other.socket.close()
        open_now = lambda: regent.metrics("regent_connections")['side="inbound"']
        until("no connection is left", lambda: open_now() == 0)
        regent.stop()
    return f"{', '.join(told)}; {grown} KiB more at the peak"


CHECKS = [streams_end_with_their_token_or_outlive_it, websockets_carry_a_gibibyte_idle_and_end_with_either_side]
