"""Runs the checks side by side, each in a process and folder of its own, then the canaries over all."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import (
    admin, canaries, commands, exhaustion, forward_auth, grpc, h2, image, inbound, jose, oidc, outages, paths, proxies,
    rotation, sdk, streams, tls,
)
from .place import Place

# The long ones first.
MODULES = (
    rotation, outages, exhaustion, paths, commands, sdk, inbound, forward_auth, jose, h2, oidc, tls, grpc, streams,
    proxies, admin, image, canaries,
)
CHECKS = {check.__name__: check for module in MODULES for check in module.CHECKS}


def main():
    parser = argparse.ArgumentParser(prog="python -m checks", description=__doc__)
    parser.add_argument("only", nargs="*", help="names, or parts of names; default: all")
    parser.add_argument("--regent", type=Path, default="target/release/regent")
    parser.add_argument("--jobs", type=int, default=5, help="most checks wait most of the time")
    parser.add_argument("--keep", action="store_true", help="leave the folder with logs where it is")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    regent = arguments.regent.resolve(strict=True)
    if arguments.one:
        return one(arguments.one, regent, arguments.folder)

    wanted = [name for name in CHECKS if not arguments.only or any(part in name for part in arguments.only)]
    if not image.is_static(regent):
        print("not a static binary, so not run in an empty root")
        wanted = [name for name in wanted if CHECKS[name] not in image.CHECKS]
    assert wanted, f"no check is called {arguments.only}"
    if not os.environ.get("REGENT_SDK_PYTHON"):
        sys.exit("REGENT_SDK_PYTHON must name a Python that has requirements-sdk.txt")
    folder = Path(tempfile.mkdtemp(prefix="regent-checks-"))
    folder.chmod(0o755)

    def run(name):
        began = time.monotonic()
        command = [sys.executable, "-m", "checks", "--one", name, "--regent", regent, "--folder", folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        mark = "ok  " if done.returncode == 0 else "FAIL"
        print(f"{mark} {time.monotonic() - began:6.1f} s  {name}  {done.stdout.strip()}", flush=True)
        return done.returncode == 0

    with ThreadPoolExecutor(arguments.jobs) as pool:
        good = all(list(pool.map(run, wanted)))
    try:
        print("ok          canaries:", canaries.scan(folder, whole=not arguments.only))
    except AssertionError as error:
        print("FAIL        canaries:", error)
        good = False
    if good and not arguments.keep:
        shutil.rmtree(folder)
    else:
        print("logs are in", folder)
    sys.exit(0 if good else 1)


def one(name, regent, folder):
    first_port = 20000 + 100 * list(CHECKS).index(name)
    with Place(regent, folder / name, first_port) as place:
        try:
            print(CHECKS[name](place) or "")
        except Exception:
            traceback.print_exc()
            sys.exit(1)


main()
