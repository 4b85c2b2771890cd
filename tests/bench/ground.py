"""What every measurement stands on: a folder, and processes that end with it."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Program:
    """A server before it runs: how it is started, and the ports that it will listen on by their names."""

    command: list
    ports: dict

    @property
    def port(self):
        """The one that matters where there is only one."""
        return next(iter(self.ports.values()))


@dataclass
class Server(Program):
    """One that runs."""

    process: subprocess.Popen = field(default=None)

    @property
    def pid(self):
        return self.process.pid


class Ground:
    """A folder, and processes that end with it."""

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="regent-bench-"))
        self.folder.chmod(0o755)  # nginx's worker is another user where root runs this
        self._running, self._places = [], 0
        return self

    def __exit__(self, *_):
        for server in reversed(self._running):
            self.stop(server)
        shutil.rmtree(self.folder)

    def place(self, name):
        """A folder in it, for one server; there may have been others of its name."""
        self._places += 1
        home = self.folder / f"{self._places}-{name}"
        home.mkdir()
        return home

    def start(self, program, core=None, before=(), patience=20):
        """Returns when every port is open; `before` stands before the command."""
        pinned = ["taskset", "-c", str(core)] if core is not None else []
        command = [str(part) for part in [*pinned, *before, *program.command]]
        log = self.folder / f"{program.port}.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env=self.environment())
        server = Server(program.command, program.ports, process)
        self._running.append(server)
        deadline = time.monotonic() + patience
        while not all(accepts(port) for port in program.ports.values()):
            alive = process.poll() is None and time.monotonic() < deadline
            assert alive, f"{command}:\n{log.read_text()[-2000:]}"
            time.sleep(0.05)
        return server

    def environment(self):
        """No setting of this user's reaches what runs here."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder)}

    def stop(self, server):
        if server in self._running:
            self._running.remove(server)
        server.process.terminate()
        try:
            server.process.wait(20)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()

    def end(self, server):
        """Ends it as a kubelet would; it must say that all went well. Under valgrind that takes long."""
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(120) == 0, f"{server.command} ended with {server.process.returncode}"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
