"""gRPC end to end: `grpcio` on both ends, through either side of Regent and through both of them over TLS."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from .inbound import ISSUER
from .place import PATIENCE, until
from .tls import Authority

SERVICE = "regent.test.Calls"
MIB = 1024 * 1024
EVERY_BYTE = bytes(range(256))
WHOLE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
# How long a Watch says nothing; longer than any idle connection lives here.
QUIET = 3


class Workload(grpc.GenericRpcHandler):
    """Messages are bytes. What it was told is kept by the method's name."""

    def __init__(self, place):
        self.told, self.cancelled = {}, threading.Semaphore(0)
        self.port = place.port()
        self.health = health.HealthServicer()
        # More than the calls that hang at a time.
        self._server = grpc.server(ThreadPoolExecutor(200), options=WHOLE)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        self._server.add_generic_rpc_handlers((self,))
        assert self._server.add_insecure_port(f"127.0.0.1:{self.port}") == self.port
        self._server.start()

    def service(self, details):
        prefix, _, name = details.method.rpartition("/")
        if prefix != f"/{SERVICE}" or name not in METHODS:
            return None
        kind = METHODS[name]
        self.told[name] = dict(details.invocation_metadata)
        return getattr(grpc, f"{kind}_rpc_method_handler")(getattr(self, name.lower()))

    def echo(self, request, context):
        context.send_initial_metadata((("x-seen-bin", EVERY_BYTE), ("x-first", "1")))
        context.set_trailing_metadata((("x-last-bin", EVERY_BYTE), ("x-last", "2")))
        return request

    def count(self, requests, context):
        return str(sum(len(request) for request in requests)).encode()

    def list(self, request, context):
        for number in range(int(request)):
            yield str(number).encode()

    def talk(self, requests, context):
        yield b"hello"
        for request in requests:
            yield request

    def fail(self, request, context):
        context.set_trailing_metadata((("grpc-status-details-bin", EVERY_BYTE), ("x-last", "2")))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "100 % wrong, ünd two\nlines")

    def half(self, request, context):
        yield b"half"
        context.abort(grpc.StatusCode.DATA_LOSS, "the rest is gone")

    def hang(self, request, context):
        """Until the call is over, whoever ends it."""
        self.told["Hang"]["remaining"] = context.time_remaining()
        over = threading.Event()
        context.add_callback(lambda: (self.cancelled.release(), over.set()))
        yield b"begun"
        assert over.wait(PATIENCE)

    def admin(self, request, context):
        return b"never"


METHODS = {
    "Echo": "unary_unary",
    "Count": "stream_unary",
    "List": "unary_stream",
    "Talk": "stream_stream",
    "Fail": "unary_unary",
    "Half": "unary_stream",
    "Hang": "unary_stream",
    "Admin": "unary_unary",
}


class Client:
    """Calls the workload through whatever listens on a port; with a token, where it needs one."""

    def __init__(self, port, token=None):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=WHOLE)
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def call(self, name, request=b"", metadata=(), timeout=PATIENCE, **more):
        kind = METHODS[name]
        method = getattr(self.channel, kind)(f"/{SERVICE}/{name}")
        if kind == "unary_unary" or kind == "stream_unary":
            method = method.with_call
        return method(request, timeout=timeout, metadata=(*self._metadata, *metadata), **more)

    def watch(self):
        stub = health_pb2_grpc.HealthStub(self.channel)
        return stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE), metadata=self._metadata)


@contextmanager
def failing(code):
    """The call in it fails with this code; what it says is looked at after."""
    try:
        said = []
        yield said
    except grpc.RpcError as error:
        assert error.code() == code, error
        said.append(error)
        return
    raise AssertionError(f"no {code}")


def all_kinds_of_calls(client, workload):
    answer, call = client.call("Echo", b"hi", (("x-own-bin", EVERY_BYTE), ("x-own", "3")))
    assert answer == b"hi" and call.code() == grpc.StatusCode.OK
    told = workload.told["Echo"]
    assert told["x-own-bin"] == EVERY_BYTE and told["x-own"] == "3", told
    first, last = dict(call.initial_metadata()), dict(call.trailing_metadata())
    assert first["x-seen-bin"] == EVERY_BYTE and first["x-first"] == "1", first
    assert last["x-last-bin"] == EVERY_BYTE and last["x-last"] == "2", last

    answer, _ = client.call("Echo", b"z" * MIB, compression=grpc.Compression.Gzip)
    assert answer == b"z" * MIB
    for size in (0, 1, 5 * MIB):
        # Nothing that a compression or a table could make small.
        message = (EVERY_BYTE * (size // 256 + 1))[:size]
        assert client.call("Echo", message)[0] == message, size

    pieces = [b"a" * 70_000 for _ in range(100)]
    assert client.call("Count", iter(pieces))[0] == b"7000000"
    assert client.call("Count", iter([]))[0] == b"0"
    assert [int(answer) for answer in client.call("List", b"1000")] == list(range(1000))
    assert list(client.call("List", b"0")) == []

    # A word at a time: what comes depends on what was sent.
    turn = threading.Semaphore(0)

    def words():
        for number in range(100):
            assert turn.acquire(timeout=PATIENCE)
            yield str(number).encode()

    heard = []
    for answer in client.call("Talk", words()):
        heard.append(answer)
        turn.release()
    assert heard == [b"hello"] + [str(number).encode() for number in range(100)], heard

    # Side by side over one connection.
    def talk(number):
        messages = [f"{number} {turn}".encode() * 100 for turn in range(20)]
        assert list(client.call("Talk", iter(messages))) == [b"hello", *messages]

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(talk, range(50)))


def errors_with_their_details(client, workload):
    with failing(grpc.StatusCode.FAILED_PRECONDITION) as said:
        client.call("Fail")
    assert said[0].details() == "100 % wrong, ünd two\nlines", said[0].details()
    trailers = dict(said[0].trailing_metadata())
    assert trailers["grpc-status-details-bin"] == EVERY_BYTE and trailers["x-last"] == "2", trailers
    heard = []
    with failing(grpc.StatusCode.DATA_LOSS) as said:
        heard.extend(client.call("Half"))
        heard.append("more")
    assert said[0].details() == "the rest is gone"
    with failing(grpc.StatusCode.UNIMPLEMENTED):
        client.channel.unary_unary(f"/{SERVICE}/Nothing")(b"", metadata=client._metadata)


def deadlines_and_cancellation(client, workload):
    call = client.call("Hang", timeout=2)
    assert next(call) == b"begun"
    with failing(grpc.StatusCode.DEADLINE_EXCEEDED):
        next(call)
    assert workload.cancelled.acquire(timeout=PATIENCE)
    remaining = workload.told["Hang"]["remaining"]
    assert remaining is not None and 0 < remaining < 3, remaining
    # Without a deadline nobody but the client ends it.
    call = client.call("Hang", timeout=None)
    assert next(call) == b"begun"
    assert workload.told["Hang"]["remaining"] is None or workload.told["Hang"]["remaining"] > 1e6
    call.cancel()
    with failing(grpc.StatusCode.CANCELLED):
        next(call)
    assert workload.cancelled.acquire(timeout=PATIENCE)
    # A client that goes as a whole takes all its calls with it.
    with Client(client.port, client.token) as other:
        calls = [other.call("Hang", timeout=None) for _ in range(10)]
        assert all(next(call) == b"begun" for call in calls)
    for _ in calls:
        assert workload.cancelled.acquire(timeout=PATIENCE)


def a_watch_that_is_quiet_for_a_while(client, workload):
    status = health_pb2.HealthCheckResponse
    workload.health.set(SERVICE, status.SERVING)
    watch = client.watch()
    assert next(watch).status == status.SERVING
    time.sleep(QUIET)
    assert client.call("Echo", b"meanwhile")[0] == b"meanwhile"
    workload.health.set(SERVICE, status.NOT_SERVING)
    assert next(watch).status == status.NOT_SERVING
    watch.cancel()


PARTS = (
    all_kinds_of_calls,
    errors_with_their_details,
    deadlines_and_cancellation,
    a_watch_that_is_quiet_for_a_while,
)
# Shorter than a Watch is quiet, and than nothing that is under way.
SHORT = {"limits.idle_timeout": "1s"}


def all_parts(port, workload, token=None):
    with Client(port, token) as client:
        client.port, client.token = port, token
        for part in PARTS:
            part(client, workload)


def inbound(place, region, workload, name, **config):
    """A sidecar before the workload."""
    config = {
        "inbound.upstream": f"http://127.0.0.1:{workload.port}",
        "inbound.upstream_protocol": "h2c",
        "inbound.issuers.home.issuer": ISSUER,
        "inbound.issuers.home.public_key_file": region.public_key,
        "inbound.issuers.home.leeway": "0s",
        "inbound.rules": [{"path": f"/{SERVICE}/Admin", "claims": {"role": ["admin"]}}],
    } | SHORT | config
    return place.regent(name, **config).start()


def grpc_through_the_outbound_side(place):
    region, workload = place.region(), Workload(place)
    config = {
        "region.url": region.url,
        "outbound.upstream": f"http://127.0.0.1:{workload.port}",
        "outbound.upstream_protocol": "h2c",
    } | SHORT
    regent = place.regent(token=region.mint(), **config).start()
    until("a token", lambda: region.calls("refresh", 200))
    all_parts(regent.port, workload)
    assert workload.told["Echo"]["authorization"].startswith("Bearer "), "the token is Regent's work"
    regent.stop()


def grpc_through_the_inbound_side(place):
    region, workload = place.region(), Workload(place)
    regent = inbound(place, region, workload, "regent")
    token = region.login()["access"]
    all_parts(regent.port, workload, token)
    told = workload.told["Echo"]
    assert told["x-regent-user"] == "alice" and "authorization" not in told, told

    # Whoever is refused is told so in gRPC's own words, and the workload hears nothing of it.
    region.stop()
    region.start(access_seconds=2)
    short = region.login()["access"]
    workload.told.clear()
    for given, name, code, reason in (
        (None, "Echo", grpc.StatusCode.UNAUTHENTICATED, "missing_token"),
        ("no.such.token", "Echo", grpc.StatusCode.UNAUTHENTICATED, "malformed_token"),
        (region.login()["refresh"], "Talk", grpc.StatusCode.UNAUTHENTICATED, "wrong_token_type"),
        (token, "Admin", grpc.StatusCode.PERMISSION_DENIED, "claims_not_met"),
    ):
        with Client(regent.port, given) as client, failing(code) as said:
            refused = client.call(name, iter([b""]) if name == "Talk" else b"")
            if name == "Talk":
                next(refused)
        assert said[0].details() == reason, said[0]
        assert workload.told == {}, workload.told

    def is_over():
        try:
            with Client(regent.port, short) as client:
                client.call("Echo")
        except grpc.RpcError as error:
            return (error.code(), error.details()) == (grpc.StatusCode.UNAUTHENTICATED, "expired")

    until("a token of two seconds to end", is_over)
    regent.stop()


def grpc_through_both_sides_over_tls(place):
    region, workload, authority = place.region(), Workload(place), Authority(place.folder / "ca")
    issued = place.folder / "certificate"
    authority.issue(issued)
    tls = {"inbound.tls.cert_file": issued / "tls.crt", "inbound.tls.key_file": issued / "key.pem"}
    inward = inbound(place, region, workload, "inward", **tls)
    config = {
        "region.url": region.url,
        "outbound.upstream": f"https://localhost:{inward.port}",
        "outbound.ca_file": authority.file,
    } | SHORT
    outward = place.regent("outward", token=region.mint(), **config).start()
    until("a token", lambda: region.calls("refresh", 200))
    all_parts(outward.port, workload)
    assert workload.told["Echo"]["x-regent-user"] == "alice"
    with Client(outward.port) as client, failing(grpc.StatusCode.PERMISSION_DENIED):
        client.call("Admin")
    outward.stop()
    inward.stop()


CHECKS = [
    grpc_through_the_outbound_side,
    grpc_through_the_inbound_side,
    grpc_through_both_sides_over_tls,
]
