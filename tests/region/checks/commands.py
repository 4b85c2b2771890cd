"""The other commands against the region, beside a sidecar that must not notice; every rung."""

import json
import stat

from .http import Load, call
from .place import until
from .rotation import no_failures, regent_for, under_load


def whose(region, token):
    answer = call(region.api_port, "GET", "/api/whoami", headers={"authorization": f"Bearer {token}"})
    assert answer.status == 200, answer
    return answer.json()["username"]


def login_stores_only_the_refresh_token_and_logout_removes_it(place):
    region = place.region(access_seconds=300)
    store = place.folder / "store" / "login.json"
    login = ["login", "--region", region.url, "--email", "alice@example.com", "--store", store]

    done = place.run(*login, "--password-stdin", stdin="wrong-" + place.passwords["bob"] + "\n")
    assert done.returncode == 3, done
    assert not store.exists(), "a refused login left a file"
    done = place.run(*login, "--password-stdin", stdin=place.passwords["alice"] + "\n")
    assert done.returncode == 0, done
    assert stat.S_IMODE(store.stat().st_mode) == 0o600
    stored = store.read_text()
    access = [line for line in (region.folder / "issued").read_text().split() if kind(line) == "access"]
    assert region.url.rstrip("/") in stored and "eyJ" in stored
    assert not any(token in stored for token in access) and place.passwords["alice"] not in stored

    done = place.run("token", "--store", store)
    assert done.returncode == 0 and whose(region, done.stdout.strip()) == "alice", done.stderr
    done = place.run("token", "--store", store, "--json")
    assert done.returncode == 0 and json.loads(done.stdout), done.stderr

    region.blacklist()
    assert place.run("token", "--store", store).returncode == 3
    region.stop()
    assert place.run("token", "--store", store).returncode in (3, 4)
    done = place.run(*login, "--password-stdin", stdin=place.passwords["alice"] + "\n")
    assert done.returncode == 4, done
    region.start()

    token = region.mint("bob")
    bob = ["login", "--region", region.url, "--email", "bob@example.com", "--store", store]
    assert place.run(*bob, "--refresh-token-stdin", stdin=token + "\n").returncode == 0
    done = place.run("token", "--store", store)
    assert done.returncode == 0 and whose(region, done.stdout.strip()) == "bob", done.stderr

    assert place.run("logout", "--store", store).returncode == 0
    assert not store.exists()
    assert "eyJ" not in "".join(file.read_text() for file in store.parent.iterdir()), "logout left a token"
    assert place.run("logout", "--store", store).returncode == 0, "there is nothing to remove: fine"


def kind(token):
    import base64

    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["token_type"]


def token_and_check_never_cost_a_running_sidecar_its_token(place):
    region = place.region(access_seconds=3)
    home = place.folder / "home"
    password = place.passwords["alice"] + "\n"
    login = ["login", "--region", region.url, "--email", "alice@example.com", "--password-stdin"]
    done = place.run(*login, stdin=password)
    assert done.returncode == 0, done
    store = home / "state" / "regent" / "login.json"
    assert store.exists(), "not where the contract says"
    config = {"region.credential.login_file": store, "outbound.upstream": region.api_url}
    regent = place.regent(environment={"HOME": str(home), "XDG_STATE_HOME": str(home / "state")}, **config).start()
    assert regent.served()["username"] == "alice"
    with Load(regent.port, threads=2) as load:
        for turn in range(12):
            before = region.refreshes()
            done = place.run("check", "--online", "-c", regent.config_file)
            assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
            done = place.run("token", *(["--store", store] if turn % 2 else ["-c", regent.config_file]))
            assert done.returncode == 0 and whose(region, done.stdout.strip()) == "alice", done.stderr[-2000:]
            until("a refresh by the sidecar", lambda: region.refreshes() > before)
        under_load(load)
    no_failures(load)
    assert not region.refused(), f"one spent the other's token: {region.refused()}"
    assert region.calls("verify", 200), "check --online asks the region"
    regent.stop()
    return f"{region.refreshes()} refreshes, {load.served} requests, 12 x token and check"


def check_online_spends_nothing_and_names_a_dead_token(place):
    region = place.region(access_seconds=300)
    regent = regent_for(place, region, token=region.mint())
    for _ in range(3):
        done = place.run("check", "--online", "-c", regent.config_file)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert not region.calls("refresh") and len(region.calls("verify", 200)) == 3, region.calls()
    region.blacklist()
    assert place.run("check", "--online", "-c", regent.config_file).returncode == 3
    region.stop()
    assert place.run("check", "--online", "-c", regent.config_file).returncode == 4
    assert place.run("check", "-c", regent.config_file).returncode == 0


def startup_require_exits_3_on_a_refused_login(place):
    region = place.region(access_seconds=300)
    regent = regent_for(place, region, token=region.mint(), **{"region.startup": "require"})
    region.blacklist()
    regent.start(wait=False)
    assert regent.process.wait(120) == 3, regent.tail()


def every_rung_logs_in_as_alice(place):
    region = place.region(access_seconds=300)
    email = "alice@example.com"

    def secret(name, content):
        file = place.folder / f"{name}.secret"
        file.touch(mode=0o600)
        file.write_text(content)
        return file

    def login():
        fields = f"email={email}&password={place.passwords['alice']}"
        form = {"content-type": "application/x-www-form-urlencoded"}
        answer = call(region.port, "POST", "/console/api/auth/", fields, form)
        assert answer.status == 200, answer
        return answer.json()

    core_conf = f"""[k8s]
default_region_key = alice@127.0.0.1:{region.port}

[k8s_config_0]
host_url = {region.url}
email = {email}
username = alice
refresh_token = {login()["refresh"]}
cluster_name =
"""
    c = "region.credential."
    rungs = {
        "refresh_token_env": {"environment": {"PRT_TOKEN": login()["refresh"]}},
        "access_token_env": {"environment": {"PRT_TOKEN": login()["access"]}},
        "core_conf": {c + "core_conf": secret("core.conf", core_conf)},
        "access_token_file": {c + "access_token_file": secret("access", login()["access"] + "\n")},
        "password": {c + "email": email, c + "password_file": secret("password", place.passwords["alice"] + "\n")},
        "refresh_token_file": {"token": region.mint()},
    }
    for name, config in rungs.items():
        environment = config.get("environment", {})
        regent = regent_for(place, region, name, **config).start()
        assert regent.served()["username"] == "alice", name
        done = place.run("check", "-c", regent.config_file, name=name, environment=environment)
        assert done.returncode == 0, done
        regent.stop()
    return ", ".join(rungs)


CHECKS = [
    token_and_check_never_cost_a_running_sidecar_its_token,
    login_stores_only_the_refresh_token_and_logout_removes_it,
    check_online_spends_nothing_and_names_a_dead_token,
    startup_require_exits_3_on_a_refused_login,
    every_rung_logs_in_as_alice,
]
