"""Ways to and from other machines: a proxy before the region (tinyproxy), and one before us (HAProxy)."""

import base64
import http.client
import os
import secrets
import shutil
import socket
import ssl
import time

from .forward_auth import started
from .inbound import before, bearing
from .place import accepts, until
from .tls import Authority
from .workload import Workload

# Nothing but the proxy knows where this is, and a certificate is made out to it.
REGION = "region.example"

TINYPROXY = """
Port {port}
Listen 127.0.0.1
Allow 127.0.0.1
LogFile "{folder}/proxy.log"
LogLevel Info
{credentials}
"""

HAPROXY = """
global
    log stdout format raw local0
defaults
    mode tcp
    timeout connect 10s
    timeout client 90s
    timeout server 90s
"""


def haproxy(place, name, sections, port):
    config = place.folder / f"{name}.cfg"
    config.write_text(HAPROXY + sections)
    binary = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    assert binary, "haproxy is not installed"
    started(place, name, [binary, "-db", "-f", config], port)


class Proxy:
    """tinyproxy, with the only name server that knows the region."""

    def __init__(self, place, name, user=None):
        self.folder = place.folder / name
        self.folder.mkdir()
        self.port = place.port()
        self.url = f"http://127.0.0.1:{self.port}"
        credentials = ""
        if user:
            password = secrets.token_hex(18)
            with open(place.folder / "secrets", "a") as kept:
                pair = base64.b64encode(f"{user}:{password}".encode()).decode()
                kept.write(f"{password}\n{pair}\n")
            credentials = f'BasicAuth {user} {password}'
            self.url = f"http://{user}:{password}@127.0.0.1:{self.port}"
        (self.folder / "hosts").write_text(f"127.0.0.1 {REGION}\n")
        config = self.folder / "tinyproxy.conf"
        config.write_text(TINYPROXY.format(port=self.port, folder=self.folder, credentials=credentials))
        self._place, self._command = place, ["tinyproxy", "-d", "-c", config]
        self.start()

    def start(self):
        names = {"LD_PRELOAD": "libnss_wrapper.so", "NSS_WRAPPER_HOSTS": str(self.folder / "hosts")}
        started(self._place, self.folder.name, self._command, self.port, **names)

    def log(self):
        return (self.folder / "proxy.log").read_text()

    def asked(self, method):
        return [line for line in self.log().splitlines() if f": {method} " in line]


def in_tls(place, region):
    """The region as the world has it: by name, and by https; its API is a second port."""
    authority = Authority(place.folder / "ca")
    authority.issue(place.folder / "cert", name=REGION)
    pair = place.folder / "cert" / "pair.pem"
    pair.write_text("".join((place.folder / "cert" / part).read_text() for part in ("tls.crt", "key.pem")))
    sections, ports = "", []
    for at, port in (("auth", region.port), ("api", region.api_port)):
        ports.append(place.port())
        sections += f"listen {at}\n    bind 127.0.0.1:{ports[-1]} ssl crt {pair}\n    server r 127.0.0.1:{port}\n"
    haproxy(place, "in-tls", sections, ports[-1])
    urls = [f"https://{REGION}:{port}" for port in ports]
    return urls, authority.file


# Whatever stands there, it is not ours to read.
NOISE = {name: "http://127.0.0.1:1" for name in ("HTTP_PROXY", "HTTPS_PROXY", "https_proxy", "ALL_PROXY")}
NOISE |= {"NO_PROXY": "*", "no_proxy": REGION}


def behind(place, urls, ca, name, **config):
    auth, api = urls
    config = {
        "region.url": auth,
        "region.ca_file": ca,
        "outbound.upstream": api,
        "outbound.ca_file": ca,
        "environment": NOISE,
    } | config
    return place.regent(name, **config)


def a_region_behind_a_proxy_is_logged_in_to_and_forwarded_to(place):
    region = place.region(access_seconds=6)
    urls, ca = in_tls(place, region)
    for name, user in (("open", None), ("closed", "alice")):
        proxy = Proxy(place, f"proxy-{name}", user)
        through = {"region.proxy": proxy.url, "outbound.proxy": proxy.url}
        regent = behind(place, urls, ca, name, token=region.mint(), **through).start()
        until("its first token", lambda: regent.admin("/startupz").status == 200)
        first = regent.served()
        assert first["username"] == "alice", first
        refreshes = region.refreshes()
        until("another refresh", lambda: region.refreshes() > refreshes)
        assert regent.served()["username"] == "alice"
        assert regent.call("POST", "/api/echo", b"x" * 300_000).body == b"x" * 300_000
        # All by CONNECT, and nothing but host and port in it.
        hosts = {line.split(" CONNECT ")[1].split()[0] for line in proxy.asked("CONNECT")}
        assert hosts == {url.removeprefix("https://") for url in urls}, proxy.log()
        assert not proxy.asked("GET") and not proxy.asked("POST"), proxy.log()

        shown = proxy.url if user is None else f"http://***@127.0.0.1:{proxy.port}"
        done = place.run("check", "--online", "-c", regent.config_file, name=name, environment=NOISE)
        assert done.returncode == 0, done
        assert f"asking {urls[0]}/ through the proxy {shown}" in done.stderr, done.stderr
        assert f"upstream {urls[1]}: reachable through the proxy {shown}" in done.stderr, done.stderr
        assert f'"{shown}"' in done.stdout, done.stdout
        regent.stop()

        store = place.folder / f"{name}.json"
        login = ["login", "-c", regent.config_file, "--region", urls[0], "--email", "alice@example.com"]
        done = place.run(
            *login, "--store", store, "--password-stdin", name=name, stdin=place.passwords["alice"], environment=NOISE
        )
        assert done.returncode == 0, done
        done = place.run("token", "-c", regent.config_file, "--store", store, name=name, environment=NOISE)
        assert done.returncode == 0 and done.stdout.startswith("eyJ"), done.stderr


def without_its_proxy_a_region_is_out_of_reach_and_a_proxy_that_refuses_is_named(place):
    region = place.region(access_seconds=300)
    urls, ca = in_tls(place, region)
    proxy = Proxy(place, "proxy", "alice")
    right = {"region.proxy": proxy.url, "outbound.proxy": proxy.url}
    wrong = {key: url.replace("alice:", "alice:not-") for key, url in right.items()}
    with open(place.folder / "secrets", "a") as kept:
        kept.write(wrong["region.proxy"].split("//")[1].split("@")[0].split(":")[1] + "\n")
    anonymous = {key: f"http://127.0.0.1:{proxy.port}" for key in right}
    for name, through, why in (
        ("none", {}, REGION),
        ("anonymous", anonymous, "it asks who we are (407)"),
        ("wrong", wrong, "must take the user and password of its URL"),
    ):
        regent = behind(place, urls, ca, name, token=region.mint(), **{"outbound.token_wait": "1s"}, **through).start()
        answer = regent.call()
        assert answer.status == 503 and answer.reason == "no_access_token", answer
        until("why", lambda regent=regent, why=why: why in regent.log())
        done = place.run("check", "--online", "-c", regent.config_file, name=name)
        assert done.returncode == 4 and why in done.stderr, done
        regent.stop()
    assert not region.calls(), region.calls()

    # The region by one that lets us in, the upstream by one that does not.
    config = right | {"outbound.proxy": wrong["outbound.proxy"]}
    regent = behind(place, urls, ca, "halves", token=region.mint(), **config).start()
    until("its first token", lambda: regent.admin("/startupz").status == 200)
    answer = regent.call()
    assert answer.status == 502 and answer.reason == "upstream_unreachable", answer
    detail = answer.json()["detail"]
    assert f"http://***@127.0.0.1:{proxy.port} answered 401 to CONNECT" in detail and "user and password" in detail, detail
    # A reload mends it, and the token is the one of before.
    text = regent.config_file.read_text()
    regent.config_file.write_text(text.replace(wrong["outbound.proxy"], right["outbound.proxy"]))
    refreshes = region.refreshes()
    assert regent.admin("/reload", "POST").status == 200
    assert regent.served()["username"] == "alice"
    assert region.refreshes() == refreshes

    # A host that the proxy does not know.
    text = regent.config_file.read_text()
    regent.config_file.write_text(text.replace(urls[1], "https://nowhere.example"))
    assert regent.admin("/reload", "POST").status == 200
    answer = regent.call()
    assert answer.status == 502 and answer.reason == "upstream_unreachable", answer
    assert "to CONNECT nowhere.example:443" in answer.json()["detail"], answer
    regent.stop()


def announcing(place, name, port, options):
    """HAProxy before the inbound listener, on both kinds of loopback; the port that callers call."""
    own = place.port()
    binds = "".join(f"    bind {host}:{own}\n" for host in ("127.0.0.1", "[::1]")[: 2 if has_ipv6() else 1])
    haproxy(place, name, f"listen {name}\n{binds}    server r 127.0.0.1:{port} {options}\n", own)
    return own


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def called_by(own, port, token, kind=http.client.HTTPConnection, **more):
    """The status of a call from this address of our own."""
    host = "::1" if ":" in own else "localhost" if more else "127.0.0.1"
    connection = kind(host, port, timeout=90, source_address=(own, 0), **more)
    connection.request("GET", "/api/whoami", headers=bearing(token))
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def seen_from(workload):
    return dict(workload.only()["headers"])["x-forwarded-for"]


# Every part that HAProxy can put in.
TLVS = "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority"


def a_caller_behind_haproxy_is_known_by_its_own_address(place):
    region, workload = place.region(), Workload(place)
    token = region.login()["access"]
    regent = before(place, region, workload.url, **{"inbound.proxy_protocol": ["127.0.0.1"]}).start()
    callers = ["127.0.0.2", "127.9.9.9"] + ["::1"] * has_ipv6()
    for name, options in (("v1", "send-proxy"), ("v2", "send-proxy-v2"), ("tlvs", TLVS)):
        port = announcing(place, name, regent.port, options)
        for own in callers:
            assert called_by(own, port, token) == 200, f"{own} by {name}: {regent.tail()}"
            assert seen_from(workload) == own, (own, name)
    # A refusal's line in the log names the caller, too.
    assert called_by(callers[1], port, "not.a.token") == 401
    line = f'"message":"refused","side":"inbound","reason":"malformed_token","peer":"{callers[1]}"'
    until("the log's line", lambda: line in regent.log(), 10)

    # Without a header nobody gets through, and one that checks our health does.
    counted = 'side="inbound",reason="bad_request",enforced="true"'
    refused = lambda: regent.metrics("regent_refused_total").get(counted, 0)  # noqa: E731
    assert refused() == 0
    for name, options in (("checks", "send-proxy-v2 check inter 100ms"), ("checks-1", "send-proxy check inter 100ms")):
        announcing(place, name, regent.port, options)
        up = f"Server {name}/r is"
        time.sleep(1)
        assert up not in (place.folder / f"{name}.log").read_text()
    assert refused() == 0, regent.tail()
    silent = announcing(place, "silent", regent.port, "")
    try:
        called_by("127.0.0.2", silent, token)
        raise AssertionError("it was answered without a header")
    except (http.client.HTTPException, OSError):
        pass
    until("it to be counted", lambda: refused() == 1)
    workload.nothing()
    regent.stop()


def tls_that_haproxy_passes_on_is_ours_behind_its_header(place):
    region, workload, authority = place.region(), Workload(place), Authority(place.folder / "ca")
    token = region.login()["access"]
    authority.issue(place.folder / "cert")
    tls = {"inbound.tls.cert_file": place.folder / "cert" / "tls.crt"}
    tls["inbound.tls.key_file"] = place.folder / "cert" / "key.pem"
    peers = {"inbound.proxy_protocol": ["127.0.0.0/8"]}
    regent = before(place, region, workload.url, **tls, **peers)
    regent.start(wait=False)
    until("its listener", lambda: "listening" in regent.log() or accepts(regent.port))
    context = ssl.create_default_context(cafile=authority.file)
    for name, options in (("v1", "send-proxy"), ("v2", TLVS)):
        port = announcing(place, name, regent.port, options)
        status = called_by("127.0.0.2", port, token, http.client.HTTPSConnection, context=context)
        assert status == 200, regent.tail()
        assert seen_from(workload) == "127.0.0.2", name
    regent.stop()


CHECKS = [
    a_region_behind_a_proxy_is_logged_in_to_and_forwarded_to,
    without_its_proxy_a_region_is_out_of_reach_and_a_proxy_that_refuses_is_named,
    a_caller_behind_haproxy_is_known_by_its_own_address,
    tls_that_haproxy_passes_on_is_ours_behind_its_header,
]
