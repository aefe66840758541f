"""What :mod:`benchmarks.relay` measures, and how it gets a joined pair from it.

``python -m benchmarks.relay_peer KIND PORT [BACKEND]`` runs one: ``splice`` and
``pump`` are our relay, with and without splicing, ``twisted`` forwards by Twisted's
``portforward``.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from typing import Any

from dwcloud.net import pump
from dwcloud.net.identity import ServerIdentity
from dwcloud.protocol.relaying.lines import KEEP_ALIVE
from dwcloud.protocol.relaying.proof import TICKET_HEADER, TICKET_SCHEME, make_proof

__all__ = ["DirectPairs", "ForwardedPairs", "Pairs", "RelayedPairs"]

HOST = "127.0.0.1"
_UPGRADE = "Connection: Upgrade\r\nUpgrade: dwcloud-relay\r\n"

Pair = tuple[socket.socket, socket.socket]


def _read_to(connection: socket.socket, end: bytes) -> bytes:
    """Read up to ``end`` and not a byte more."""
    data = b""
    while not data.endswith(end):
        seen = connection.recv(4096, socket.MSG_PEEK)
        if not seen:
            raise ConnectionError(f"closed after {data!r}")
        known = len(data)
        at = (data + seen).find(end)
        wanted = len(seen) if at < 0 else at + len(end) - known
        data += connection.recv(wanted, socket.MSG_WAITALL)
    return data


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection((HOST, port), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class DirectPairs:
    """Two ends of one connection, for comparison."""

    def __init__(self) -> None:
        self.listener = socket.create_server((HOST, 0), backlog=512)
        self.backend: int = self.listener.getsockname()[1]

    def join(self) -> Pair:
        """Return the client's and the server's socket of a new pair."""
        return self._join(self.backend)

    def _join(self, port: int) -> Pair:
        client = _connect(port)
        token = os.urandom(8)
        client.sendall(token)
        # What only tried whether the forwarder is there says nothing.
        while True:
            server, _ = self.listener.accept()
            with contextlib.suppress(ConnectionError):
                if server.recv(8, socket.MSG_WAITALL) == token:
                    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    return client, server
            server.close()


class ForwardedPairs(DirectPairs):
    """A connection to a forwarder and the one that it makes for that."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port

    def join(self) -> Pair:
        """Return the client's and the server's socket of a new pair."""
        return self._join(self.port)


class RelayedPairs:
    """A server's idle connection and a client that takes it, at our relay."""

    def __init__(self, port: int, identity: ServerIdentity) -> None:
        self.port = port
        self.identity = identity
        self._ticket = ""

    def _ask(
        self, connection: socket.socket, request: str, fields: str = ""
    ) -> tuple[int, dict[str, str], bytes]:
        connection.sendall(
            f"{request} HTTP/1.1\r\nHost: relay\r\n{fields}\r\n".encode()
        )
        first, *rest = _read_to(connection, b"\r\n\r\n").decode().splitlines()
        headers = {}
        for line in rest:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", 0))
        body = connection.recv(length, socket.MSG_WAITALL) if length else b""
        return int(first.split()[1]), headers, body

    def idle(self) -> socket.socket:
        """Return one more idle connection of the server."""
        connection = _connect(self.port)
        request = f"GET /relay/server/{self.identity.name}/tunnel/upgrade"
        proof = f"{TICKET_SCHEME} {self._ticket}" if self._ticket else ""
        for _ in range(2):
            fields = _UPGRADE + (f"Authorization: {proof}\r\n" if proof else "")
            status, headers, body = self._ask(connection, request, fields)
            if status != 401:
                break
            proof = make_proof(
                headers["www-authenticate"],
                method="upgrade",
                name=self.identity.name,
                channel_binding=b"",
                certificates=self.identity.certificates,
                sign=self.identity.sign,
            ).encode()
        if status != 101:
            raise ConnectionError(f"{status} {body!r}")
        self._ticket = headers.get(TICKET_HEADER.lower(), self._ticket)
        assert _read_to(connection, b"\r\n") == KEEP_ALIVE
        connection.sendall(KEEP_ALIVE)
        return connection

    def join(self) -> Pair:
        """Return the client's and the server's socket of a new pair."""
        server, client = self.idle(), _connect(self.port)
        path = f"POST /relay/server/{self.identity.name}/client_sessions/"
        status, _, body = self._ask(client, path, "Content-Length: 0\r\n")
        assert status == 201, body
        url = json.loads(body)["url"]
        status, _, body = self._ask(client, f"GET {url}/upgrade", _UPGRADE)
        assert status == 101, body
        while not _read_to(server, b"\r\n").startswith(b"OPEN_TUNNEL"):
            server.sendall(KEEP_ALIVE)
        return client, server


Pairs = DirectPairs | RelayedPairs


def _run(kind: str, port: int, backend: int) -> None:
    from twisted.internet import reactor as _reactor

    reactor: Any = _reactor
    if kind == "twisted":
        from twisted.protocols.portforward import ProxyFactory

        factory = ProxyFactory(HOST, backend)
        factory.noisy = False
        reactor.listenTCP(port, factory, interface=HOST, backlog=512)
    else:
        from dwcloud.protocol.relaying.pairing import Limits
        from dwcloud.relay.service import RelayService

        if kind == "pump":
            pump.can_splice = lambda protocol: False  # type: ignore[assignment]
        RelayService(
            reactor,
            [f"tcp:{port}:interface={HOST}:backlog=512"],
            # One server opens and takes them all, faster than a real one would.
            limits=Limits(idle_per_server=1_000_000),
        ).startService()
    reactor.run()


if __name__ == "__main__":
    _run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
