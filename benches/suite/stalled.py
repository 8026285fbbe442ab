"""Clients that stop in the middle of a large download."""

import socket

from harness.load import Failed

COUNT, READ = 30, 50_000


class Clients:
    def __init__(self, server, path, length):
        self.server, self.length, self.clients = server, length, []
        for _ in range(COUNT):
            client = socket.create_connection(("127.0.0.1", server.port))
            # As large as it is at first, and no larger.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            client.settimeout(2)
            self.clients.append((client, self._read_a_little(client)))

    def _read_a_little(self, client):
        read = b""
        try:
            while len(read) < READ:
                block = client.recv(READ - len(read))
                if not block:
                    break
                read += block
        except TimeoutError:
            pass  # nobody has time for it, which is what this is about
        return read

    def read_on(self):
        """Each body has to arrive whole and right."""
        body = bytes(range(256)) * (self.length // 256)
        for client, read in self.clients:
            client.settimeout(60)
            received = bytearray(read)
            while block := client.recv(1 << 20):
                received += block
            head, _, rest = bytes(received).partition(b"\r\n\r\n")
            if b" 200 " not in head.partition(b"\r\n")[0] or rest != body:
                raise Failed(f"{self.server.name}: a stalled download ended with {len(rest)} bytes: {head[:200]}")

    def close(self):
        for client, _ in self.clients:
            client.close()
