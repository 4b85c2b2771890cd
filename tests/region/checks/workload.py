"""What stands behind the inbound side in a check: a server that records every request that reaches it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Workload:
    """`seen` holds what came, oldest first; ends with its check's process."""

    def __init__(self, place):
        self.port = place.port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.seen = []
        recorded = self.seen

        class Recorder(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = [(name.lower(), value) for name, value in self.headers.items()]
                recorded.append({"method": self.command, "path": self.path, "headers": headers, "body": body})
                answer = json.dumps({"path": self.path, "identity": identity(headers)}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Recorder)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def only(self):
        """The one request that came since the last call."""
        assert len(self.seen) == 1, self.seen
        return self.seen.pop()

    def nothing(self):
        assert not self.seen, f"it reached the workload: {self.seen}"


def identity(headers):
    """What a request says about who calls."""
    found = {}
    for name, value in headers:
        if name.startswith("x-regent-") and name != "x-regent-hop":
            assert name not in found, f"{name} came twice"
            found[name] = value
    return found
