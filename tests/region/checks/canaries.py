"""No token, password or key in anything that any Regent of the other checks wrote, at trace level."""

import json
import os
import re
import resource
import signal
from pathlib import Path

from .place import until
from .rotation import regent_for

# What a reader of logs could use: a JWT or its parts, however they are quoted or cut.
JWT = re.compile(rb"eyJ[A-Za-z0-9_-]{16,}")
WORD = re.compile(rb"[A-Za-z0-9_+/=-]{24,}")


def secrets_of(folder):
    """Every token that was made, by signature and payload, every password, every line of every private key."""
    found = set()
    for file in folder.rglob("issued"):
        for token in file.read_bytes().split():
            # All that a forger changed may be short, or zeros.
            parts = (part[:24] for part in token.split(b".")[1:] if len(part) >= 24)
            found.update(part for part in parts if len(set(part)) > 4)
    for file in folder.rglob("key.pem"):
        found.update(line[:24] for line in file.read_bytes().splitlines() if b"-" not in line and len(line) > 24)
    for file in folder.rglob("private.jwks"):
        for key in json.loads(file.read_bytes())["keys"]:
            found.update(key[name][:24].encode() for name in ("d", "p", "q", "dp", "dq", "qi"))
    passwords = {word for file in folder.rglob("secrets") for word in file.read_bytes().split()}
    return found, passwords


def written_by_regent(folder):
    names = ("regent*.log", "*.regent.log", "regent.admin*", "cmdline", "error-bodies")
    return sorted({file for name in names for file in folder.rglob(name)})


def hits(content, parts, passwords):
    # A secret may stand inside a longer run of letters: look from every place where one can begin.
    for word in set(WORD.findall(content)):
        for at in range(len(word) - 23):
            if word[at : at + 24] in parts:
                return word[:60]
    found = JWT.search(content)
    if found:
        return found.group()[:60]
    return next((b"a password" for password in passwords if password in content), None)


def scan(folder, whole=True):
    """After all other checks (`whole`) or some, over what they left behind. Returns what to print."""
    parts, passwords = secrets_of(folder)
    files = written_by_regent(folder)
    size = sum(file.stat().st_size for file in files)
    assert parts and passwords and files, "nothing to look for, or nowhere to look"
    twin = b'{"level":"TRACE","message":"sent Bearer x.' + next(iter(parts)) + b'"}'
    assert hits(twin, parts, passwords), "the canary itself is blind"
    leaks = []
    for file in files:
        with open(file, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if found := hits(line, parts, passwords):
                    leaks.append(f"{file}:{number}: {found!r}")
                    break
    assert not leaks, "secrets were written:\n" + "\n".join(leaks)
    if whole:
        assert any(b'"level":"TRACE"' in file.read_bytes() for file in files if file.suffix == ".log"), "no trace"
    return f"{len(parts)} secrets, {len(files)} files, {size / 2**20:.0f} MiB"


def no_core_is_dumped_and_no_neighbour_may_look(place):
    region = place.region(access_seconds=300)
    resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
    regent = regent_for(place, region, token=region.mint()).start()
    assert regent.served()
    proc = Path(f"/proc/{regent.process.pid}")
    limit = next(line for line in (proc / "limits").read_text().splitlines() if "core file size" in line)
    assert limit.split()[4] == "0", limit
    regent.process.send_signal(signal.SIGQUIT)  # dumps a core by default
    until("its end", lambda: regent.process.poll() is not None)
    assert not [file for file in regent.folder.iterdir() if file.name.startswith("core")]
    if os.getuid() == 0:
        # The files in /proc of a process that is not dumpable belong to root, whoever runs it.
        other = regent_for(place, region, "other", token=region.mint())
        for file in (other.folder, *other.folder.iterdir()):
            os.chown(file, 65534, 65534)
        other.start(user=65534, group=65534)
        assert other.served()
        status = (Path(f"/proc/{other.process.pid}/status")).read_text()
        assert "Uid:\t65534" in status, status
        assert os.stat(f"/proc/{other.process.pid}/environ").st_uid == 0, "it is dumpable"
        other.stop()


CHECKS = [no_core_is_dumped_and_no_neighbour_may_look]
