"""As much of HTTP/2 (RFC 9113) as one request by prior knowledge takes."""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
ACK = END_STREAM = 0x1
END_HEADERS = 0x4


def speaks_h2(port):
    """Whether a plain listener answers the preface with its settings."""
    try:
        with connect(port) as client:
            return read_frame(client)[0] == SETTINGS
    except OSError:
        return False


def connect(port):
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    client.sendall(PREFACE + frame(SETTINGS, 0, 0, b""))
    return client


def get(client, port, path):
    """One GET on a new connection; its answer is complete when this returns."""
    # RFC 7541: :method GET, :scheme http; :path and :authority as literals without an index.
    head = b"\x82\x86" + literal(4, path) + literal(1, f"127.0.0.1:{port}")
    client.sendall(frame(HEADERS, END_STREAM | END_HEADERS, 1, head))
    while True:
        kind, flags, stream, payload = read_frame(client)
        if kind == SETTINGS and not flags & ACK:
            client.sendall(frame(SETTINGS, ACK, 0, b""))
        assert kind not in (GOAWAY, RST_STREAM), (kind, payload)
        if stream == 1 and kind == HEADERS:
            assert payload[0] == 0x88 or b"200" in payload, payload  # 0x88 is :status 200
        if stream == 1 and kind in (DATA, HEADERS) and flags & END_STREAM:
            return


def literal(index, value):
    assert len(value) < 127
    return bytes([index, len(value)]) + value.encode()


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def read_frame(client):
    head = read(client, 9)
    kind, flags, stream = struct.unpack(">BBI", head[3:])
    return kind, flags, stream, read(client, int.from_bytes(head[:3], "big"))


def read(client, count):
    data = b""
    while len(data) < count:
        got = client.recv(count - len(data))
        if not got:
            raise ConnectionError("the connection was closed")
        data += got
    return data
