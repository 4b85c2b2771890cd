"""The image's binary in an empty root: no libc, no resolv.conf, no hosts, no certificates, no /proc."""

import os
import shutil
import subprocess

from . import http
from .place import PATIENCE, accepts, until


def is_static(binary):
    segments = subprocess.run(["readelf", "-lW", binary], capture_output=True, text=True, check=True).stdout
    return "INTERP" not in segments


def the_binary_needs_nothing_but_itself(place):
    region = place.region(access_seconds=2)
    root = place.folder / "root"
    (root / "etc" / "regent").mkdir(parents=True)
    (root / "state").mkdir()
    shutil.copy(place.regent_binary, root / "regent")
    token = root / "refresh-token"
    token.touch(mode=0o600)
    token.write_text(region.mint())
    port, admin = place.port(), place.port()
    (root / "etc" / "regent" / "regent.toml").write_text(
        f"""
region.url = "http://localhost:{region.port}"
region.credential.refresh_token_file = "/refresh-token"
region.credential.state = "file:/state/state.json"
outbound.listen = "127.0.0.1:{port}"
outbound.upstream = "http://localhost:{region.api_port}"
admin.listen = "127.0.0.1:{admin}"
log.level = "trace"
log.format = "json"
"""
    )
    inside = (["chroot", root] if os.getuid() == 0 else ["unshare", "-r", "chroot", root]) + ["/regent"]
    bare = {"PATH": os.environ["PATH"]}
    log = place.folder / "regent.log"
    for arguments in (["--help"], ["check"], ["check", "--online"]):
        done = subprocess.run(inside + arguments, capture_output=True, text=True, timeout=PATIENCE, env=bare)
        assert done.returncode == 0, f"{arguments}: {done}"
        with open(log, "a") as kept:
            kept.write(done.stdout + done.stderr)
    regent = place.spawn(inside + ["run"], bare | {"RUST_LOG": "trace"}, log)
    until("regent's listener", lambda: regent.poll() is not None or accepts(port))
    until("a rotation", lambda: http.call(port, "GET", "/api/whoami").status == 200 and region.refreshes() > 2)
    assert http.call(port, "GET", "/api/whoami").json()["username"] == "alice"
    at = ["--admin", f"127.0.0.1:{admin}"]
    for probe in ("startup", "live", "ready"):
        done = subprocess.run(inside + ["probe", probe, *at], capture_output=True, text=True, timeout=PATIENCE, env=bare)
        assert done.returncode == 0, f"{probe}: {done}"
    done = subprocess.run(inside + ["quit", *at], capture_output=True, text=True, timeout=PATIENCE, env=bare)
    assert done.returncode == 0, done
    assert regent.wait(PATIENCE) == 0
    return f"{(root / 'regent').stat().st_size / 2**20:.1f} MiB"


CHECKS = [the_binary_needs_nothing_but_itself]
