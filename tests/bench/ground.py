"""What both measurements stand on: an nginx that answers, and the proxies before it."""

import base64
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

SIZES = {"1k": 1024, "64k": 64 * 1024, "1m": 1024 * 1024}


class Ground:
    """A folder, and processes that end with it."""

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="regent-bench-"))
        self.folder.chmod(0o755)  # nginx's worker is another user where root runs this
        self._running = []
        return self

    def __exit__(self, *_):
        for process in reversed(self._running):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder)

    def spawn(self, command, port, core=None, patience=20):
        """Returns when `port` is open."""
        pinned = ["taskset", "-c", str(core)] if core is not None else []
        log = self.folder / f"{port}.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                pinned + [str(part) for part in command],
                stdout=output,
                stderr=output,
                env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
            )
        self._running.append(process)
        deadline = time.monotonic() + patience
        while not accepts(port):
            assert process.poll() is None and time.monotonic() < deadline, f"{command}:\n{log.read_text()[-2000:]}"
            time.sleep(0.05)
        return process

    def origin(self, core=None):
        """nginx with one file a size; returns its port."""
        port = free_port()
        files = self.folder / "files"
        files.mkdir()
        for name, size in SIZES.items():
            (files / name).write_bytes(b"x" * size)
        server = f"""
            listen 127.0.0.1:{port}; root {files}; default_type application/octet-stream;
            sendfile on; tcp_nopush on; open_file_cache max=100;"""
        self.spawn(self._nginx("origin", server), port, core)
        return port

    def nginx(self, origin, token, core=None):
        port = free_port()
        server = f"""
            listen 127.0.0.1:{port};
            location / {{
                proxy_pass http://origin; proxy_http_version 1.1; proxy_max_temp_file_size 0;
                proxy_set_header Connection ""; proxy_set_header Host 127.0.0.1:{origin};
                proxy_set_header Authorization "Bearer {token}";
            }}"""
        upstream = f"""
            upstream origin {{
                server 127.0.0.1:{origin}; keepalive 64; keepalive_requests 1000000000; keepalive_time 24h;
            }}"""
        return self.spawn(self._nginx("proxy", server, upstream), port, core), port

    def haproxy(self, origin, token, core=None):
        rules = f'''
    http-request set-header Authorization "Bearer {token}"
    http-request set-header Host 127.0.0.1:{origin}'''
        return self._haproxy(origin, rules, core)

    def haproxy_inbound(self, origin, public_key, core=None):
        """Verifies what comes by `jwt_verify`, its time and its type, and names the user."""
        rules = f'''
    http-request set-var(txn.bearer) http_auth_bearer
    http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')
    http-request set-var(txn.now) date()
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_header_query('$.alg') -m str RS256 }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_payload_query('$.iss') -m str iss.bench }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_payload_query('$.token_type') -m str access }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_verify("RS256","{public_key}") 1 }}
    http-request deny deny_status 401 if {{ var(txn.exp),sub(txn.now) -m int lt 0 }}
    http-request del-header Authorization
    http-request set-var(txn.user) var(txn.bearer),jwt_payload_query('$.username')
    http-request set-header X-Regent-User %[var(txn.user)]
    http-request set-header X-Forwarded-For %[src]'''
        return self._haproxy(origin, rules, core)

    def _haproxy(self, origin, rules, core):
        port = free_port()
        config = self.folder / "haproxy.cfg"
        config.write_text(
            f"""
global
    nbthread 1
    maxconn 2000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend in
    bind 127.0.0.1:{port}{rules}
    default_backend origin
backend origin
    server one 127.0.0.1:{origin}
"""
        )
        return self.spawn(["haproxy", "-db", "-f", config], port, core), port

    def regent(self, binary, origin, token, core=None, before=(), patience=20):
        """Regent with a token that somebody else refreshes: nothing but the hot path is left to do."""
        port, admin = free_port(), free_port()
        token_file = self.folder / "access-token"
        token_file.touch(mode=0o600)
        token_file.write_text(token)
        config = self.folder / "regent.toml"
        config.write_text(
            f"""
region.url = "http://127.0.0.1:{origin}"
region.credential.access_token_file = "{token_file}"
outbound.listen = "127.0.0.1:{port}"
outbound.upstream = "http://127.0.0.1:{origin}"
admin.listen = "127.0.0.1:{admin}"
log.format = "json"
"""
        )
        return self.spawn([*before, binary, "run", "-c", config], port, core, patience), port

    def regent_inbound(self, binary, origin, public_key, core=None, before=(), patience=20):
        port, admin = free_port(), free_port()
        config = self.folder / "inbound.toml"
        config.write_text(
            f"""
inbound.listen = "127.0.0.1:{port}"
inbound.upstream = "http://127.0.0.1:{origin}"
inbound.issuers.home.issuer = "iss.bench"
inbound.issuers.home.public_key_file = "{public_key}"
admin.listen = "127.0.0.1:{admin}"
log.format = "json"
"""
        )
        return self.spawn([*before, binary, "run", "-c", config], port, core, patience), port

    def _nginx(self, name, server, upstream=""):
        home = self.folder / name
        home.mkdir()
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{kind}_temp_path {home}/{kind};" for kind in kinds)
        config = home / "nginx.conf"
        config.write_text(
            f"""
            daemon off; worker_processes 1; pid {home}/pid; error_log {home}/error.log;
            events {{ worker_connections 4096; }}
            http {{
                access_log off; {temporary}
                keepalive_requests 1000000000; keepalive_time 24h; keepalive_timeout 1h; {upstream}
                server {{ {server} }}
            }}"""
        )
        return ["nginx", "-c", config, "-e", home / "error.log"]


def token(hours=6):
    """An access token as a region makes it, but for its signature, which nobody on this path checks."""
    now = int(time.time())
    claims = {"token_type": "access", "iat": now, "exp": now + 3600 * hours, "jti": "0" * 32, "user_id": 1}
    parts = json.dumps({"alg": "RS256", "typ": "JWT"}).encode(), json.dumps(claims).encode(), os.urandom(256)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def key_pair(folder):
    """A 2048-bit RSA key by openssl: the private key's file, and the public one's."""
    private, public = folder / "key.pem", folder / "public.pem"
    make = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", private]
    subprocess.run(make, check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    return private, public


def signed_token(private, user, hours=6):
    """An access token as a region makes it, signed by the key."""
    now = int(time.time())
    claims = {"iss": "iss.bench", "token_type": "access", "iat": now, "exp": now + 3600 * hours, "jti": f"{user:032}"}
    claims |= {"user_id": user, "username": f"user-{user}", "email": f"user-{user}@example.com"}
    parts = json.dumps({"alg": "RS256", "typ": "JWT"}).encode(), json.dumps(claims).encode()
    signed = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    sign = ["openssl", "dgst", "-sha256", "-sign", private]
    signature = subprocess.run(sign, input=signed.encode(), capture_output=True, check=True).stdout
    return signed + "." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
