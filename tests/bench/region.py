"""A small region for the soak: it hands out tokens for a refresh token, and its keys rotate.

Each refresh token is good for one refresh. A new key signs from the moment on at which it is published;
the old one stays published for as long as tokens of its own live.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from keys import ISSUER, Key

REFRESH = "/console/api/auth/refresh/"
KEYS = "/jwks.json"


class Region:
    def __init__(self, access_lifetime):
        self._lifetime = access_lifetime
        self._lock = threading.Lock()
        self._keys = []  # (key, until when it is published; None: it signs)
        self._jti = 0
        self.refreshes = self.refused = self.key_fetches = 0
        self.signed_by = set()  # the names of the keys that access tokens were signed with
        self.rotate_key()
        self.refresh_token = self._refresh_token()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def rotate_key(self):
        key = Key(kid=f"key-{len(self._keys)}")
        with self._lock:
            if self._keys:
                self._keys[-1] = self._keys[-1][0], time.time() + self._lifetime + 5
            self._keys.append((key, None))

    def _refresh_token(self):
        now, key = int(time.time()), self._keys[-1][0]
        self._jti += 1
        claims = {"iss": ISSUER, "token_type": "refresh", "jti": f"r{self._jti}", "user_id": 1}
        return key.sign(**claims, iat=now, exp=now + 86400)

    def refresh(self, token):
        """The answer to a refresh: its status and its body."""
        with self._lock:
            if token != self.refresh_token:
                self.refused += 1
                return 401, {"detail": "Token is blacklisted", "code": "token_not_valid"}
            self.refreshes += 1
            self.refresh_token = self._refresh_token()
            key = self._keys[-1][0]
            self.signed_by.add(key.kid)
            access = key.token(1, int(time.time()), self._lifetime)
            return 200, {"access": access, "refresh": self.refresh_token}

    def key_set(self):
        with self._lock:
            self.key_fetches += 1
            return {"keys": [key.jwk() for key, until in self._keys if until is None or until > time.time()]}

    def _handler(region):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.answer(*((200, region.key_set()) if self.path == KEYS else (404, {})))

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.answer(*(region.refresh(token_in(body)) if self.path == REFRESH else (404, {})))

            def answer(self, status, value):
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        return Handler


def token_in(body):
    """Of a form or JSON."""
    if body.startswith(b"{"):
        return json.loads(body).get("refresh")
    return dict(pair.split("=", 1) for pair in body.decode().split("&")).get("refresh")
