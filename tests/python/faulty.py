"""A proxy on loopback between a client and a server that does to answers what networks do: every few requests it resets the
connection, answers 503, cuts the body, changes a byte of it or dribbles it out."""
import itertools
import socket
import socketserver
import struct
import threading
import time

FAULTS = ("none", "reset", "none", "503", "none", "cut", "none", "flip", "slow")
UNAVAILABLE = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class FaultyProxy:
    """Listens while it is entered. `done` counts the faults."""

    def __init__(self, host, port):
        proxy = self
        self.target, self.done = (host, port), {fault: 0 for fault in FAULTS}
        self.turns, self.lock = itertools.cycle(FAULTS), threading.Lock()

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                proxy.pass_on(self.request)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address, daemon_threads = True, True

        self.server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = "http://127.0.0.1:%d" % self.server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def pass_on(self, client):
        """One request of a connection; the client opens another for the next."""
        request = self.head(client)
        if not request:
            return
        with self.lock:
            fault = next(self.turns)
            self.done[fault] += 1
        if fault == "reset":
            # Closing with unsent data thrown away is a reset.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            return
        if fault == "503":
            client.sendall(UNAVAILABLE)
            return
        head, body = self.answer(request)
        if fault == "cut":
            body = body[:len(body) // 2]
        if fault == "flip" and body:
            body = body[:len(body) // 2] + bytes([body[len(body) // 2] ^ 1]) + body[len(body) // 2 + 1:]
        client.sendall(head)
        step = max(1, len(body) // 20) if fault == "slow" else max(1, len(body))
        for at in range(0, len(body), step):
            client.sendall(body[at:at + step])
            if fault == "slow":
                time.sleep(0.01)

    @staticmethod
    def head(connection):
        """A request, of which the client sends no body."""
        received = b""
        while b"\r\n\r\n" not in received:
            more = connection.recv(65536)
            if not more:
                return b""
            received += more
        return received

    def answer(self, request):
        """The server's answer, head and body."""
        lines = [line for line in request.split(b"\r\n\r\n")[0].split(b"\r\n") if not line.lower().startswith(b"connection:")]
        received = b""
        with socket.create_connection(self.target) as server:
            server.sendall(b"\r\n".join(lines) + b"\r\nConnection: close\r\n\r\n")
            while more := server.recv(1 << 20):
                received += more
        head, body = received.split(b"\r\n\r\n", 1)
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        return b"\r\n".join(lines) + b"\r\nConnection: close\r\n\r\n", body


class SilentProxy(FaultyProxy):
    """Passes on what is asked, except shards' data: whoever asks for that hears nothing until it is left."""

    def __init__(self, host, port):
        super().__init__(host, port)
        self.asked, self.over = threading.Event(), threading.Event()

    def __exit__(self, *reason):
        self.over.set()
        super().__exit__(*reason)

    def pass_on(self, client):
        request = self.head(client)
        if not request:
            return
        if b"/data/part-" in request.split(b"\r\n")[0]:
            self.asked.set()
            self.over.wait()
            return
        head, body = self.answer(request)
        client.sendall(head + body)
