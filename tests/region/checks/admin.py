"""What the admin listener tells: metrics as Prometheus' own library reads them, and the pages beside them."""

import html.parser
import json

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

from . import http
from .inbound import bearing, before
from .workload import Workload

# The contract's, with the labels of each.
METRICS = {
    "regent_requests_total": {"side", "status"},
    "regent_request_duration_seconds_bucket": {"side", "le"},
    "regent_request_duration_seconds_sum": {"side"},
    "regent_request_duration_seconds_count": {"side"},
    "regent_connections": {"side"},
    "regent_refused_total": {"side", "reason", "enforced"},
    "regent_upstream_failures_total": {"side", "reason"},
    "regent_unauthorized_recovered_total": set(),
    "regent_token_refresh_total": {"result"},
    "regent_token_expiry_timestamp_seconds": set(),
    "regent_refresh_token_expiry_timestamp_seconds": set(),
    "regent_login_refused": set(),
    "regent_state_write_failures_total": set(),
    "regent_clock_skew_seconds": set(),
    "regent_issuer_keys": {"issuer"},
    "regent_issuer_keys_age_seconds": {"issuer"},
    "regent_issuer_fetch_total": {"issuer", "result"},
    "regent_federation_quarantined": set(),
    "regent_config_reload_total": {"result"},
    "regent_config_last_reload_timestamp_seconds": set(),
    "regent_build_info": {"version", "commit"},
}


def both_sides(place):
    region, workload = place.region(), Workload(place)
    federation = place.folder / "issuers.json"
    federation.write_text(json.dumps({"issuers": []}))
    config = {
        "region.url": region.url,
        "outbound.upstream": region.api_url,
        "inbound.federation.file": federation,
    }
    regent = before(place, region, workload.url, token=region.mint(), **config).start()
    assert regent.served()["username"] == "alice"
    token = region.login()["access"]
    assert http.call(regent.inbound_port, "GET", "/x", headers=bearing(token)).status == 200
    assert http.call(regent.inbound_port, "GET", "/x").status == 401
    return regent


def samples(families):
    found = {}
    for family in families:
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def the_metrics_are_the_contract_s_in_both_formats(place):
    regent = both_sides(place)
    plain = regent.admin("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4"), plain
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    opened = http.call(regent.admin_port, "GET", "/metrics", headers={"accept": accept})
    assert opened.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0"), opened
    read = samples(text(plain.body.decode()))
    again = samples(openmetrics(opened.body.decode()))
    assert read.keys() == again.keys(), read.keys() ^ again.keys()
    labels = {}
    for name, pairs in read:
        labels.setdefault(name, set()).update(key for key, _ in pairs)
    assert labels == METRICS, {name: labels.get(name) for name in labels.keys() ^ METRICS.keys()}
    refused = ("regent_refused_total", (("enforced", "true"), ("reason", "missing_token"), ("side", "inbound")))
    assert read[refused] == 1, read[refused]
    regent.stop()
    return f"{len(read)} samples"


class Words(html.parser.HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.words, self.tags = [], set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)

    def handle_data(self, data):
        self.words.append(data)


def the_pages_tell_what_runs_and_load_nothing(place):
    regent = both_sides(place)
    status = regent.admin("/status.json").json()
    assert status["state"] == "ready", status
    assert status["outbound"]["login"]["user"] == "alice", status
    assert status["inbound"]["issuers"].keys() == {"home"}, status
    home = status["inbound"]["issuers"]["home"]
    assert home["usable"] and home["keys"] == ["RSA, 2048 bits, no kid"], home
    assert status["outbound"]["requests"] == 1 and status["inbound"]["requests"] == 2, status
    page = regent.admin("/status")
    assert page.headers["content-type"] == "text/html; charset=utf-8", page
    assert page.headers["content-security-policy"].startswith("default-src 'none'"), page
    words = Words(page.body.decode())
    for word in ("Regent is ready", "alice", "home", "RSA, 2048 bits, no kid"):
        assert word in words.words, (word, words.words)
    assert not words.tags & {"script", "img", "link", "iframe"}, words.tags
    # As `regent check` prints it.
    checked = place.run("check", "-c", regent.config_file)
    assert checked.returncode == 0, checked
    assert regent.admin("/config").body.decode() == checked.stdout
    regent.stop()


CHECKS = [the_metrics_are_the_contract_s_in_both_formats, the_pages_tell_what_runs_and_load_nothing]
