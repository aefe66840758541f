"""dwcloud's own programs at work in the lab, as people start them."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
from typing import Any

import attrs

from tests.lab.processes import PATIENCE, LabError, Process, wait_for
from tests.lab.topology import Host

__all__ = [
    "MEDIATOR_PORT",
    "RELAY_PORT",
    "Cloud",
    "Forward",
    "Server",
    "Transfer",
    "serve_files",
]

MEDIATOR_PORT = 3345
RELAY_PORT = 3349
_FILE_SERVER_PORT = 8080
_FILE = "data.bin"


def serve_files(host: Host, size: int) -> str:
    """Serve a file of random octets by HTTP on the host's loopback.

    :return: the SHA-256 of the file, hexadecimal.
    """
    directory = host.directory / "public"
    directory.mkdir()
    content = os.urandom(size)
    (directory / _FILE).write_bytes(content)
    port = str(_FILE_SERVER_PORT)
    host.spawn(
        "files",
        [
            *(sys.executable, "-m", "http.server", port),
            *("--bind", "127.0.0.1", "--directory", str(directory)),
        ],
    )
    host.wait_until_listening(_FILE_SERVER_PORT)
    return hashlib.sha256(content).hexdigest()


def _event(line: str, *names: str) -> dict[str, Any] | None:
    """Return the event on a line of output, if it is one of these."""
    if not line.startswith("{"):
        return None
    event: dict[str, Any] = json.loads(line)
    return event if event.get("event") in names else None


@attrs.frozen
class Cloud:
    """A mediator and a relay on one host.

    :ivar address: of the host.
    """

    host: Host
    mediator: Process
    relay: Process

    @classmethod
    def start(cls, host: Host, *options: str) -> Cloud:
        """Start both and wait until they listen.

        :param options: of the mediator.
        """
        mediator = host.spawn(
            "mediator", ["twistd", "-n", "--pidfile=", "mediator", *options]
        )
        relay = host.spawn("relay", ["twistd", "-n", "--pidfile=", "relay"])
        for port in (MEDIATOR_PORT, RELAY_PORT):
            host.wait_until_listening(port)
        return cls(host, mediator, relay)

    @property
    def address(self) -> str:
        """Where both are."""
        return self.host.address

    def statistics(self) -> dict[str, Any]:
        """Return the mediator's figures."""
        url = f"http://{self.address}:{MEDIATOR_PORT}/mediator/statistics/"
        words = ["curl", "--silent", "--show-error", "--fail", url]
        return dict(json.loads(self.host.run(words)))

    def requests(self) -> int:
        """Return how many clients' requests the mediator's log shows."""
        return sum("asks for" in line for line in self.mediator.lines())


@attrs.frozen
class Server:
    """A host that publishes a file server as the service ``web``.

    :ivar peer: its name for clients.
    :ivar sha256: of the file that it serves.
    :ivar process: ``dwcloud serve``.
    """

    host: Host
    peer: str
    sha256: str
    process: Process

    @classmethod
    def start(
        cls, host: Host, cloud: Cloud, size: int, *options: str, until: str = "online"
    ) -> Server:
        """Start it and wait until it is online.

        :param size: of the file, octets.
        :param options: of ``dwcloud serve``.
        :param until: another event to be waited for.
        """
        serving = host.spawn(
            "serve",
            [
                *("dwcloud", "serve", f"web=127.0.0.1:{_FILE_SERVER_PORT}", "--json"),
                *("--mediator", cloud.address, *options),
            ],
        )
        sha256 = serve_files(host, size)
        online = serving.wait_for_line(
            f"event {until}", lambda line: _event(line, until), PATIENCE
        )
        return cls(host, online["peer"], sha256, serving)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return what it said of that kind so far."""
        found = (_event(line, name) for line in self.process.lines())
        return [event for event in found if event]

    def mapping(self, *ports: int) -> dict[str, Any]:
        """Wait until its router forwards two ports; return the latest event.

        :param ports: those that have to be among the forwarded ones.
        """

        def complete() -> dict[str, Any] | None:
            events = self.events("port_mapping")
            last: dict[str, Any] = events[-1] if events else {}
            text = f"{last.get('tcp')} {last.get('udp')} "
            return (
                last if all(f":{p} " in text for p in ports) and "udp" in last else None
            )

        return wait_for(f"port mappings of {self.host.label}", complete, PATIENCE)


@attrs.frozen
class Transfer:
    """How a file came.

    :ivar report: the line of JSON about the connection.
    """

    report: dict[str, Any]
    sha256: str

    @property
    def path(self) -> str:
        """The path that the client says it used."""
        return str(self.report["path"])


class Forward:
    """``dwcloud forward`` on a client's host.

    :param options: of the command.
    """

    def __init__(self, host: Host, server: Server, cloud: Cloud, *options: str) -> None:
        self._host = host
        self._process = host.spawn(
            "-".join(["forward", *(word.strip("-") for word in options)]),
            [
                *("dwcloud", "forward", server.peer, "0:web", "--json"),
                *("--mediator", cloud.address, *options),
            ],
        )
        listening = self._process.wait_for_line(
            "listening", lambda line: _event(line, "listening"), PATIENCE
        )
        self._address = listening["address"]

    def end(self) -> None:
        """Stop it."""
        self._process.end()

    def reports(self) -> list[dict[str, Any]]:
        """Return what it said about each connection so far."""
        events = (_event(line, "connected", "failed") for line in self._process.lines())
        return [event for event in events if event]

    def fetch(self, limit: float = 2 * PATIENCE) -> Transfer:
        """Fetch the file with curl, over a new connection.

        :raises LabError: if it does not come; see :meth:`reports` for why.
        """
        before = len(self.reports())
        target = self._host.directory / _FILE
        url = f"http://{self._address}/{_FILE}"
        self._host.run(
            ["curl", "--silent", "--show-error", "--fail", "-o", str(target), url],
            limit,
        )
        (report,) = wait_for("a report", lambda: self.reports()[before:])
        return Transfer(report, hashlib.sha256(target.read_bytes()).hexdigest())

    def open(self) -> socket.socket:
        """Return a connection to the forwarded port."""
        opened = self._host.socket(socket.SOCK_STREAM)
        host, _, port = str(self._address).rpartition(":")
        opened.settimeout(PATIENCE)
        opened.connect((host, int(port)))
        return opened

    def request(self, opened: socket.socket) -> str:
        """Ask for the file on an open connection; return its SHA-256."""
        opened.sendall(f"GET /{_FILE} HTTP/1.0\r\n\r\n".encode())
        received = bytearray()
        while piece := opened.recv(65536):
            received += piece
        _, _, body = bytes(received).partition(b"\r\n\r\n")
        return hashlib.sha256(body).hexdigest()

    def fail(self, limit: float = 2 * PATIENCE) -> dict[str, Any]:
        """Try to fetch the file, in vain; return the report.

        :raises LabError: if it comes.
        """
        before = len(self.reports())
        try:
            self.fetch(limit)
        except LabError:
            (report,) = wait_for("a report", lambda: self.reports()[before:])
            return report
        raise LabError("the file came")
