"""The region's own SDK, practicuscore: it logs in, Regent runs from its store; its calls go through Regent."""

import json
import os
import subprocess

from .place import PATIENCE, until
from .rotation import regent_for

LOGIN = """
import os, practicuscore as prt
region = prt.login(os.environ["REGION"], "alice@example.com", os.environ["PASSWORD"])
print(region.key)
"""
# The SDK believes that it is logged in with tokens of its own making; Regent's replaces them.
THROUGH_REGENT = """
import base64, json, os, time, practicuscore as prt
from practicuscore.region_manager import Region
def part(content):
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()
def placeholder(kind):
    return part({"alg": "none"}) + "." + part({"token_type": kind, "exp": int(time.time()) + 3600}) + ".AAAA"
access = placeholder("access")
login = {"email": "alice@example.com", "username": "alice", "refresh_token": placeholder("refresh")}
region = Region(os.environ["REGENT"], access_token=access, **login)
assert region.get_access_token() == access
client = region._create_console_client()
cluster, result = client.get_cluster_definition()
print(json.dumps({
    "cluster": cluster.name,
    "model": region.get_model_api_session_token(os.environ["REGENT"] + "/models/prefix/name/"),
    "model_of_id": client.get_model_token(8, False)[0],
    "app": client.get_app_token(9, True)[0],
}))
"""


def sdk(place, script, **environment):
    home = place.folder / "sdk-home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [os.environ["REGENT_SDK_PYTHON"], "-c", script],
        env={"PATH": os.environ["PATH"], "HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout.strip().splitlines()[-1]


def claims(token):
    import base64

    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def the_sdk_logs_in_and_regent_runs_from_its_store(place):
    region = place.region(rotate=0)
    key = sdk(place, LOGIN, REGION=region.url, PASSWORD=place.passwords["alice"])
    store = place.folder / "sdk-home" / ".practicus" / "core.conf"
    stored = store.read_text()
    assert f"default_region_key = {key}" in stored
    for name, chosen in (("default", {}), ("named", {"region.credential.core_conf_region": key})):
        # The region's URL comes from core.conf alone.
        config = {"region.credential.core_conf": store, "outbound.upstream": region.api_url} | chosen
        regent = place.regent(name, **config).start()
        assert regent.served()["username"] == "alice"
        regent.stop()
    assert store.read_text() == stored, "core.conf is read only"


def a_rotating_region_spends_the_sdk_s_token_and_that_is_said(place):
    region = place.region()
    sdk(place, LOGIN, REGION=region.url, PASSWORD=place.passwords["alice"])
    store = place.folder / "sdk-home" / ".practicus" / "core.conf"
    stored = store.read_text()
    state = f"file:{place.folder / 'state.json'}"
    config = {"region.credential.core_conf": store, "region.credential.state": state}
    regent = place.regent(**config, **{"outbound.upstream": region.api_url}).start()
    assert regent.served()["username"] == "alice"
    until("the log to name the remedy", lambda: any("regent login" in line for line in regent.said()))
    regent.stop()
    regent.start()
    assert regent.served()["username"] == "alice"
    regent.stop()
    assert store.read_text() == stored, "core.conf is read only"


def the_sdk_works_through_regent(place):
    region = place.region()
    regent = regent_for(place, region, token=region.mint()).start()
    tokens = json.loads(sdk(place, THROUGH_REGENT, REGENT=f"http://localhost:{regent.port}"))
    assert tokens["cluster"] == "test"
    assert claims(tokens["model"])["for"].startswith("model_id=7"), claims(tokens["model"])
    assert claims(tokens["model_of_id"])["for"].startswith("model_id=8")
    assert claims(tokens["app"])["for"].startswith("app_id=9")
    assert {claims(tokens[name])["user_id"] for name in ("model", "model_of_id", "app")} == {"1"}
    # It logs in through Regent too: a form that a proxy must not touch.
    key = sdk(place, LOGIN, REGION=f"http://localhost:{regent.port}", PASSWORD=place.passwords["alice"])
    assert key == f"alice@localhost:{regent.port}"
    regent.stop()


CHECKS = [
    the_sdk_logs_in_and_regent_runs_from_its_store,
    a_rotating_region_spends_the_sdk_s_token_and_that_is_said,
    the_sdk_works_through_regent,
]
