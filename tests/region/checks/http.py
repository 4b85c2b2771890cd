"""Plain calls through Regent, one connection each, and a steady load on kept connections."""

import http.client
import json
import threading
import time
from dataclasses import dataclass, field


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes
    began: float
    ended: float

    def json(self):
        return json.loads(self.body)

    @property
    def reason(self):
        """Why Regent itself answered; None where the upstream did."""
        if "application/problem+json" not in self.headers.get("content-type", ""):
            return None
        return self.json()["reason"]

    def __str__(self):
        return f"{self.status} {self.headers} {self.body[:300]!r}"


def call(port, method, path, body=None, headers=None, timeout=90):
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        return exchange(connection, method, path, body, headers)
    finally:
        connection.close()


def exchange(connection, method, path, body=None, headers=None):
    began = time.time()
    connection.request(method, path, body=body, headers=headers or {})
    response = connection.getresponse()
    content = response.read()
    names = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, names, content, began, time.time())


def call_json(port, path, content):
    """For the region's own controls."""
    answer = call(port, "POST", path, json.dumps(content), {"content-type": "application/json"})
    assert answer.status == 200, answer
    return answer.json()


@dataclass
class Load:
    """`threads` clients that ask for `path` until stopped; what was no 200 stands in `failures`."""

    port: int
    path: str = "/api/whoami"
    threads: int = 4
    pause: float = 0.02
    served: int = 0
    failures: list = field(default_factory=list)
    on_answer: object = None
    headers: dict = field(default_factory=dict)

    def __post_init__(self):
        self._lock = threading.Lock()
        self._running = threading.Event()
        self._stopped = False

    def __enter__(self):
        self._running.set()
        self._idle = threading.Semaphore(0)
        self._workers = [threading.Thread(target=self._work, daemon=True) for _ in range(self.threads)]
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(self, *_):
        self._stopped = True
        self._running.set()
        for worker in self._workers:
            worker.join(120)

    def hold(self):
        """Returns when no request is in flight; `go` resumes, on new connections."""
        self._running.clear()
        for _ in self._workers:
            assert self._idle.acquire(timeout=120), "a request under load did not end"

    def go(self):
        self._running.set()

    def _work(self):
        connection = None
        while not self._stopped:
            if not self._running.is_set():
                if connection:
                    connection.close()
                    connection = None
                self._idle.release()
                self._running.wait()
                continue
            connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)
            try:
                answer = exchange(connection, "GET", self.path, headers=self.headers)
                failed = None if answer.status == 200 else str(answer)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                connection, answer, failed = None, None, repr(error)
            with self._lock:
                if answer and self.on_answer:
                    self.on_answer(answer)
                if failed:
                    self.failures.append(f"{time.time():.3f} {failed}")
                else:
                    self.served += 1
            time.sleep(self.pause)
