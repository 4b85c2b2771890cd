"""The servers: an nginx that answers, and the proxies before it, each set up to do the same job.

All of them keep connections to the upstream, write no access log, run one worker, and put in or take
away the same headers. What each is told beyond that is what its manual recommends for speed.
"""

import json
import shutil

import needs
from ground import Program, free_port
from keys import ISSUER

SIZES = {"1k": 1024, "64k": 64 * 1024, "1m": 1024 * 1024}
TUNED = "proxy_buffer_size 64k; proxy_buffers 32 64k; proxy_busy_buffers_size 512k;"


# --- nginx ---------------------------------------------------------------------------------------


def origin(ground, tls=None):
    """nginx with one file a size; with `tls` (certificate, key) over TLS."""
    port, home = free_port(), ground.place("origin")
    for name, size in SIZES.items():
        (home / name).write_bytes(b"x" * size)
    server = f"""
        listen 127.0.0.1:{port}{" ssl" if tls else ""}; root {home}; default_type application/octet-stream;
        sendfile on; tcp_nopush on; open_file_cache max=100; {nginx_tls(*tls) if tls else ""}"""
    return Program(nginx_command(home, [server]), {"plain": port})


def nginx(ground, upstream, headers, *, name="nginx", listen="", more="", ca=None):
    """`headers`: what upstream requests get. `ca`: the upstream speaks TLS, and is verified by this."""
    home, port = ground.place(name), free_port()
    server = nginx_server(f"127.0.0.1:{port}{listen}", upstream, headers, more, ca)
    return Program(nginx_command(home, [server], nginx_upstream(upstream)), {"plain": port})


def nginx_both(ground, upstream, *, tls=None, h2=False):
    """Both sides of a sidecar, as nginx has them; inbound over TLS with `tls` (certificate, key)."""
    ports = {"outbound": free_port(), "inbound": free_port()}
    servers = [
        nginx_server(f"127.0.0.1:{ports['outbound']}{' http2' if h2 else ''}", upstream, {}),
        nginx_server(f"127.0.0.1:{ports['inbound']}{' ssl' if tls else ''}", upstream, {}, nginx_tls(*tls) if tls else ""),
    ]
    home = ground.place("nginx")
    return Program(nginx_command(home, servers, nginx_upstream(upstream)), ports)


def nginx_server(listen, upstream, headers, more="", ca=None):
    sets = " ".join(f'proxy_set_header {name} "{value}";' for name, value in headers.items())
    verify = f"""
        proxy_ssl_verify on; proxy_ssl_trusted_certificate {ca}; proxy_ssl_name localhost;
        proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3;"""
    return f"""
        listen {listen}; {more}
        location / {{
            proxy_pass {"https" if ca else "http"}://origin; proxy_http_version 1.1; proxy_max_temp_file_size 0;
            proxy_set_header Connection ""; proxy_set_header Host localhost:{upstream}; {sets}
            {verify if ca else ""}
        }}"""


def nginx_upstream(port):
    return f"""
        upstream origin {{
            server 127.0.0.1:{port}; keepalive 1024; keepalive_requests 1000000000; keepalive_time 24h;
        }}"""


def nginx_tls(certificate, key):
    # The cipher that OpenSSL and rustls prefer: Envoy would choose another.
    return f"""
        ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;
        ssl_conf_command Ciphersuites TLS_AES_256_GCM_SHA384; ssl_session_cache shared:tls:1m;"""


def nginx_command(home, servers, upstream=""):
    # A copy of its own: pages that several nginx share would make each look smaller than it is.
    binary = shutil.copy(shutil.which("nginx"), home / "nginx")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {home}/{kind};" for kind in kinds)
    config = home / "nginx.conf"
    config.write_text(
        f"""
        daemon off; worker_processes 1; pid {home}/pid; error_log {home}/error.log;
        events {{ worker_connections 8192; }}
        http {{
            access_log off; {temporary}
            keepalive_requests 1000000000; keepalive_time 24h; keepalive_timeout 1h; {upstream}
            {"".join(f"server {{ {server} }}" for server in servers)}
        }}"""
    )
    return [binary, "-c", config, "-e", home / "error.log"]


# --- HAProxy -------------------------------------------------------------------------------------


def haproxy(ground, upstream, token, *, bind="", ca=None):
    rules = f'''
    http-request set-header Authorization "Bearer {token}"
    http-request set-header Host localhost:{upstream}'''
    return haproxy_program(ground, upstream, rules, bind, ca)


def haproxy_inbound(ground, upstream, public_key):
    """Verifies by `jwt_verify`, then the time and the type, and names the user."""
    rules = f'''
    http-request set-var(txn.bearer) http_auth_bearer
    http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')
    http-request set-var(txn.now) date()
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_header_query('$.alg') -m str RS256 }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_payload_query('$.iss') -m str {ISSUER} }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_payload_query('$.token_type') -m str access }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_verify("RS256","{public_key}") 1 }}
    http-request deny deny_status 401 if {{ var(txn.exp),sub(txn.now) -m int lt 0 }}
    http-request del-header Authorization
    http-request set-var(txn.user) var(txn.bearer),jwt_payload_query('$.username')
    http-request set-var(txn.id) var(txn.bearer),jwt_payload_query('$.user_id','int')
    http-request set-header X-Regent-User %[var(txn.user)]
    http-request set-header X-Regent-User-Id %[var(txn.id)]
    http-request set-header X-Regent-Issuer home
    http-request set-header X-Forwarded-For %[src]'''
    return haproxy_program(ground, upstream, rules)


def haproxy_program(ground, upstream, rules, bind="", ca=None):
    port = free_port()
    tls = f" ssl verify required ca-file {ca} verifyhost localhost sni str(localhost)" if ca else ""
    config = ground.place("haproxy") / "haproxy.cfg"
    config.write_text(
        f"""
global
    nbthread 1
    maxconn 4000
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    http-reuse always
frontend in
    bind 127.0.0.1:{port}{bind}{rules}
    default_backend origin
backend origin
    server one 127.0.0.1:{upstream}{tls}
"""
    )
    return Program(["haproxy", "-db", "-f", config], {"plain": port})


# --- Envoy ---------------------------------------------------------------------------------------


def envoy(ground, upstream, token, *, ca=None):
    add = {"header": {"key": "authorization", "value": f"Bearer {token}"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    more = {"request_headers_to_add": [add]}
    return envoy_program(ground, upstream, route={"host_rewrite_literal": f"localhost:{upstream}"}, virtual_host=more, ca=ca)


def envoy_inbound(ground, upstream, jwk):
    """Verifies by `jwt_authn` with its cache, as large as Regent's (its default is 100), and names the user."""
    claims = {"username": "x-regent-user", "user_id": "x-regent-user-id"}
    provider = {
        "issuer": ISSUER,
        "local_jwks": {"inline_string": json.dumps({"keys": [jwk]})},
        "jwt_cache_config": {"jwt_cache_size": 4096},
        "claim_to_headers": [{"header_name": name, "claim_name": claim} for claim, name in claims.items()],
    }
    rules = [{"match": {"prefix": "/"}, "requires": {"provider_name": "home"}}]
    verify = envoy_filter("jwt_authn", "jwt_authn.v3.JwtAuthentication", providers={"home": provider}, rules=rules)
    add = {"header": {"key": "x-regent-issuer", "value": "home"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    more = {"request_headers_to_add": [add]}
    return envoy_program(ground, upstream, filters=[verify], virtual_host=more, use_remote_address=True)


def envoy_program(ground, upstream, *, filters=(), route=None, virtual_host=None, ca=None, **connection_manager):
    port = free_port()
    router = envoy_filter("router", "router.v3.Router", dynamic_stats=False, suppress_envoy_headers=True)
    hosts = {"name": "all", "domains": ["*"]} | (virtual_host or {})
    hosts["routes"] = [{"match": {"prefix": "/"}, "route": {"cluster": "origin"} | (route or {})}]
    manager = {
        "@type": f"{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "generate_request_id": False,
        "route_config": {"virtual_hosts": [hosts]},
        "http_filters": [*filters, router],
    } | connection_manager
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    endpoint = {"endpoint": {"address": envoy_address(upstream)}}
    most = {name: 100_000 for name in ("max_connections", "max_pending_requests", "max_requests")}
    cluster = {
        "name": "origin",
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [most]},
        "load_assignment": {"cluster_name": "origin", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    if ca:
        name = {"san_type": "DNS", "matcher": {"exact": "localhost"}}
        context = {"trusted_ca": {"filename": str(ca)}, "match_typed_subject_alt_names": [name]}
        tls = {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": "localhost",
            "common_tls_context": {
                "validation_context": context,
                "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
            },
        }
        cluster["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": tls}
    listener = {"name": "in", "address": envoy_address(port), "filter_chains": [chain]}
    config = ground.place("envoy") / "envoy.json"
    config.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    command = [needs.envoy(), "-c", config, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return Program(command, {"plain": port})


FILTERS = "type.googleapis.com/envoy.extensions.filters"


def envoy_filter(name, kind, **settings):
    return {"name": f"envoy.filters.http.{name}", "typed_config": {"@type": f"{FILTERS}.http.{kind}"} | settings}


def envoy_address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


# --- Regent --------------------------------------------------------------------------------------


def regent(ground, binary, *sides, name="regent"):
    """With these sides, each a pair of its port and its config; the log is JSON, as in a pod."""
    home, admin = ground.place(name), free_port()
    config = home / "regent.toml"
    tables = [text for _, text in sides]
    config.write_text("\n".join([*tables, f'admin.listen = "127.0.0.1:{admin}"', 'log.format = "json"']))
    ports = dict(port for port, _ in sides) | {"admin": admin}
    return Program([binary, "run", "-c", config], ports)


def outbound(ground, upstream, token=None, *, ca=None, region=None, refresh_token_file=None):
    """With a token that somebody else refreshes, so that nothing but the path of a request is left to do;
    or with a refresh token's file, and a region."""
    port = free_port()
    url = f"{'https' if ca else 'http'}://localhost:{upstream}"
    credential = f'refresh_token_file = "{refresh_token_file}"'
    if token:
        file = ground.folder / f"access-token-{port}"
        file.touch(mode=0o600)
        file.write_text(token)
        credential = f'access_token_file = "{file}"'
    trust = f'outbound.ca_file = "{ca}"' if ca else ""
    text = f"""
region.url = "{region or url}"
region.credential.{credential}
outbound.listen = "127.0.0.1:{port}"
outbound.upstream = "{url}"
{trust}"""
    return ("outbound", port), text


def inbound(upstream, keys, *, tls=None):
    """`keys`: where the issuer's keys come from, as config. `tls`: (certificate, key)."""
    port = free_port()
    more = 'inbound.tls.cert_file = "{}"\ninbound.tls.key_file = "{}"'.format(*tls) if tls else ""
    text = f"""
inbound.listen = "127.0.0.1:{port}"
inbound.upstream = "http://127.0.0.1:{upstream}"
inbound.issuers.home.issuer = "{ISSUER}"
inbound.issuers.home.{keys}
{more}"""
    return ("inbound", port), text
