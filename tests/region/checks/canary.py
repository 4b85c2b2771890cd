"""A port that nobody may ever connect to."""

import socket
import threading


class Canary:
    """`connections` holds who did."""

    def __init__(self, place):
        self.port = place.port()
        self.connections = []
        listener = socket.create_server(("127.0.0.1", self.port))

        def accept():
            while True:
                connection, peer = listener.accept()
                self.connections.append(peer)
                connection.close()

        threading.Thread(target=accept, daemon=True).start()
