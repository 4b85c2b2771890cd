"""Where a check happens: a folder, a region, its API as an upstream of its own, and Regents."""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from . import http

HERE = Path(__file__).resolve().parent.parent
# Nothing here waits for a time to pass, only for a thing to happen; this is when we give up.
PATIENCE = 120


def until(what, condition, patience=PATIENCE, every=0.05):
    """The condition's value as soon as it is true."""
    deadline = time.monotonic() + patience
    while True:
        if value := condition():
            return value
        assert time.monotonic() < deadline, f"waited {patience} s in vain: {what}"
        time.sleep(every)


class Place:
    """Ends what it started when the check is over."""

    def __init__(self, regent, folder, first_port):
        self.regent_binary = regent
        self.folder = folder
        self.folder.mkdir(parents=True)
        self._next_port = first_port
        self._running = []
        self.passwords = {name: f"pw-{name}-{secrets.token_urlsafe(18)}" for name in ("alice", "bob")}
        (self.folder / "secrets").write_text("\n".join(self.passwords.values()) + "\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self._running):
            process.kill()
            process.wait()

    def port(self):
        """A free port below the range that outgoing connections take theirs from."""
        while True:
            self._next_port += 1
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", self._next_port))
                    return self._next_port
                except OSError:
                    continue

    def spawn(self, arguments, environment, log, **more):
        with open(log, "ab") as output:
            process = subprocess.Popen(
                [str(argument) for argument in arguments], env=environment, stdout=output, stderr=output, **more
            )
        self._running.append(process)
        return process

    def ended(self, process):
        self._running.remove(process)

    def region(self, name="region", **settings):
        return Region(self, name, settings)

    def regent(self, name="regent", **config):
        return Regent(self, name, config)

    def run(self, *arguments, name="command", stdin=None, environment=None):
        """One `regent` command to its end, its output kept for the canaries."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        done = subprocess.run(
            [self.regent_binary, *map(str, arguments)],
            input=stdin,
            text=True,
            capture_output=True,
            timeout=PATIENCE,
            env=regent_environment(home) | (environment or {}),
        )
        with open(self.folder / f"{name}.regent.log", "a") as log:
            log.write(done.stderr)
            # `regent token` prints a token: that is its job, and the only place for one.
            log.write("" if arguments[0] == "token" else done.stdout)
        return done


def regent_environment(home):
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "RUST_LOG": "trace",
        "RUST_BACKTRACE": "1",
    }


class Region:
    """The processes of one region: `auth` logs in and refreshes, `api` serves what Regent fronts."""

    def __init__(self, place, name, settings):
        self._place = place
        self.folder = place.folder / name
        self.folder.mkdir()
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "REGION_DIR": str(self.folder),
            "REGION_USERS": json.dumps(place.passwords),
        }
        self.port = place.port()
        self.api_port = place.port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.api_url = f"http://127.0.0.1:{self.api_port}"
        self.start(**settings)
        self._api = self._serve(self.api_port)

    def start(self, **settings):
        """Of a region that was stopped: as it was, but for `settings`."""
        self._environment |= {f"REGION_{key.upper()}": str(value) for key, value in settings.items()}
        self._auth = self._serve(self.port)

    def stop(self):
        self._auth.kill()
        self._auth.wait()
        self._place.ended(self._auth)

    def _serve(self, port):
        command = [sys.executable, "-m", "region", port]
        process = self._place.spawn(command, self._environment, self.folder / "region.log", cwd=HERE)
        until(f"the region on port {port}", lambda: process.poll() is not None or accepts(port))
        assert process.poll() is None, (self.folder / "region.log").read_text()
        return process

    def behave(self, **wanted):
        http.call_json(self.port, "/_test/behave", wanted)

    def api_behave(self, **wanted):
        http.call_json(self.api_port, "/_test/behave", wanted)

    def api_saw(self):
        return http.call(self.api_port, "GET", "/_test/seen").json()

    @property
    def public_key(self):
        """What its admin hands out: a PEM."""
        return self.folder / "public.pem"

    def mint(self, user="alice"):
        """A refresh token, as a person hands it out."""
        return http.call_json(self.port, "/_test/mint", {"user": user})["refresh"]

    def blacklist(self, user="alice"):
        http.call_json(self.port, "/_test/blacklist", {"user": user})

    def calls(self, kind=None, status=None):
        """The log of calls so far, oldest first."""
        try:
            lines = (self.folder / "calls.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        entries = map(json.loads, lines)
        return [e for e in entries if kind in (None, e["call"]) and status in (None, e["status"])]

    def login(self, user="alice"):
        """An access and a refresh token."""
        fields = {"email": f"{user}@example.com", "password": self._place.passwords[user]}
        return http.call_json(self.port, "/console/api/auth/", fields)

    def refreshes(self):
        return len(self.calls("refresh", 200))

    def refused(self):
        return self.calls("refresh", 401)


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Regent:
    """One sidecar with its own config file; may be started again and again.

    The sides that it has are those that the config names, outbound if it names none. `port` is
    outbound's, or inbound's where there is no outbound.
    """

    def __init__(self, place, name, config):
        self._place = place
        self.folder = place.folder / name
        self.folder.mkdir()
        sides = {key.split(".")[0] for key in config}
        if "inbound" in sides:
            self.inbound_port = place.port()
            config.setdefault("inbound.listen", f"127.0.0.1:{self.inbound_port}")
        if "inbound" in sides and not sides & {"outbound", "region"}:
            self.port = self.inbound_port
        else:
            self.port = place.port()
            config.setdefault("outbound.listen", f"127.0.0.1:{self.port}")
        self.admin_port = place.port()
        self.environment = config.pop("environment", {})
        self.token_file = self.folder / "refresh-token"
        if token := config.pop("token", None):
            self.give(token)
            config.setdefault("region.credential.refresh_token_file", self.token_file)
            config.setdefault("region.credential.state", f"file:{self.folder / 'state.json'}")
        config.setdefault("admin.listen", f"127.0.0.1:{self.admin_port}")
        config.setdefault("log.level", "trace")
        config.setdefault("log.format", "json")
        self.config_file = self.folder / "regent.toml"
        self.config_file.write_text("".join(f"{key} = {toml(value)}\n" for key, value in config.items()))
        self.log_file = self.folder / "regent.log"
        self.log_file.touch()
        self.process = None

    def give(self, token):
        """A new token in the file, swapped in whole."""
        fresh = self.token_file.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(token)
        fresh.rename(self.token_file)

    def start(self, wait=True, **more):
        environment = regent_environment(self.folder) | self.environment
        command = [self._place.regent_binary, "run", "-c", self.config_file]
        # Its own folder, so that a core file, if one could be written, would be found there.
        self.process = self._place.spawn(command, environment, self.log_file, cwd=self.folder, **more)
        if wait:
            until("regent's listener", lambda: self.process.poll() is not None or accepts(self.port))
            assert self.process.poll() is None, f"regent ended with {self.process.returncode}: {self.tail()}"
            with open(self._place.folder / "cmdline", "a") as seen:
                seen.write(Path(f"/proc/{self.process.pid}/cmdline").read_text() + "\n")
        return self

    def stop(self):
        """SIGTERM, and the exit code 0 that it promises."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE)
        self._place.ended(self.process)
        assert code == 0, f"regent ended with {code} after SIGTERM: {self.tail()}"

    def kill(self):
        self.process.kill()
        self.process.wait()
        self._place.ended(self.process)

    def call(self, method="GET", path="/api/whoami", body=None, headers=None):
        answer = http.call(self.port, method, path, body, headers)
        return self._kept(answer)

    def admin(self, path, method="GET"):
        answer = self._kept(http.call(self.admin_port, method, path))
        # The canaries read the last of each.
        (self.folder / f"regent.admin{path.replace('/', '-')}").write_bytes(answer.body)
        return answer

    def metrics(self, name):
        """The samples of one metric, by their labels as they are written."""
        found = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", self.admin("/metrics").body.decode(), re.MULTILINE)
        return {labels: float(value) for labels, value in found}

    def _kept(self, answer):
        if answer.status >= 400:
            with open(self._place.folder / "error-bodies", "a") as kept:
                kept.write(f"{answer}\n")
        return answer

    def served(self):
        """The upstream's answer; waits for nothing."""
        answer = self.call()
        assert answer.status == 200, f"{answer}\n{self.tail()}"
        return answer.json()

    def turn_the_log(self):
        """From here on `log` and `tail` speak of what comes next; the old stays for the canaries."""
        kept = len(list(self.folder.glob("regent.*.log")))
        self.log_file.rename(self.folder / f"regent.{kept}.log")
        self.log_file.touch()

    def log(self):
        return self.log_file.read_text(errors="replace")

    def tail(self, lines=15):
        """The end of what was said at info or above."""
        return "\n".join(line[:1500] for line in self.said()[-lines:])

    def said(self):
        """The log at info and above, by lines."""
        return [line for line in self.log().splitlines() if not re.search(r'"level":"(TRACE|DEBUG)"', line)]


def toml(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {toml(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)
