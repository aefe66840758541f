"""The cloud of ``dwcloud demo``: real programs on loopback, and a real directory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults

from dwcloud.cli.child_processes import ChildProcess
from dwcloud.cli.console import Console
from dwcloud.cli.failures import CommandFailed
from dwcloud.cli.options import MEDIATOR_VARIABLE
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.protocol.names import PeerName

__all__ = [
    "DWCLOUD",
    "FILE_NAME",
    "FILE_SIZE",
    "LOOPBACK",
    "READY_TIMEOUT",
    "SERVICE",
    "TWISTD",
    "DemoCloud",
    "free_port",
    "free_ports",
]

LOOPBACK = "127.0.0.1"
SERVICE = "web"
FILE_NAME = "random.bin"
FILE_SIZE = 64 * 2**20
"""Bytes of the file that is fetched."""

READY_TIMEOUT = 30.0
"""Seconds for a program to start, on a busy machine."""
_CHUNK = 2**20
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
DWCLOUD = [sys.executable, "-m", "dwcloud.cli.main"]
_README = "Published by 'dwcloud demo'. random.bin is what it fetches.\n"


@attrs.frozen
class _Program:
    """A running program and how to start one like it by hand."""

    child: ChildProcess
    by_hand: str


class DemoCloud:
    """A mediator, a relay, a web server and a ``dwcloud serve``, all children.

    :ivar mediator: address of the mediator.
    :ivar peer: name of the server.
    :ivar sha256: of the published file, hexadecimal.
    """

    mediator: MediatorAddress
    peer: PeerName
    sha256: str

    def __init__(self, reactor: Any, console: Console) -> None:
        self._reactor = reactor
        self._console = console
        self._programs: list[_Program] = []
        self._directory = Path(tempfile.mkdtemp(prefix="dwcloud-demo-"))

    @property
    def published(self) -> Path:
        """The directory that the web server shows."""
        return self._directory / "published"

    @property
    def by_hand(self) -> list[str]:
        """The commands of the programs that run."""
        return [program.by_hand for program in self._programs]

    async def start(self) -> None:
        """Make the directory and start all programs.

        :raises CommandFailed: if one of them does not come up.
        """
        self.published.mkdir()
        relay, website = self._run_relay(), self._run_web_server()
        # Made while both of them load.
        self.sha256 = self._make_file()
        relay_port = await _port_of(relay)
        self._console.message(f"relay     http://{LOOPBACK}:{relay_port}")
        await self._start_mediator(relay_port)
        web_port = await _port_of(website)
        self._console.message(f"website   http://{LOOPBACK}:{web_port}/")
        await self._start_server(web_port)

    def check(self) -> None:
        """Make sure that all programs still run.

        :raises CommandFailed: naming the one that ended.
        """
        for program in self._programs:
            program.child.check()

    def any_ended(self) -> Deferred[None]:
        """Fires when one of the programs has ended."""
        ended: Deferred[None] = Deferred()

        def fire(result: Any) -> Any:
            if not ended.called:
                ended.callback(None)
            return result

        for program in self._programs:
            program.child.ended.addCallback(fire)
        return ended

    async def stop(self) -> None:
        """End all programs and remove the directory."""
        stopping = [program.child.stop() for program in reversed(self._programs)]
        try:
            await gatherResults(stopping)
        finally:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _make_file(self) -> str:
        (self.published / "README.txt").write_text(_README)
        digest = hashlib.sha256()
        with (self.published / FILE_NAME).open("wb") as file:
            for _ in range(FILE_SIZE // _CHUNK):
                chunk = os.urandom(_CHUNK)
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()

    def _run(
        self, name: str, program: list[str], arguments: list[str], **more: str
    ) -> ChildProcess:
        """Start a program, with more in its environment."""
        environment = {k: v for k, v in os.environ.items() if k != MEDIATOR_VARIABLE}
        environment.update(more)
        environment["PYTHONUNBUFFERED"] = "1"
        child = ChildProcess(self._reactor, name)
        # Twisted's own programs are told not to leave a pid file behind.
        quiet = ["--pidfile="] if program is TWISTD else []
        child.start([*program, *quiet, *arguments], self._directory, environment)
        typed = {id(TWISTD): ["twistd"], id(DWCLOUD): ["dwcloud"]}.get(
            id(program), ["python", *program[1:]]
        )
        self._programs.append(_Program(child, shlex.join([*typed, *arguments])))
        return child

    def _run_relay(self) -> ChildProcess:
        return self._run(
            "the relay",
            TWISTD,
            ["-n", "relay", "--listen", f"tcp:0:interface={LOOPBACK}"],
        )

    async def _start_mediator(self, relay_port: int) -> None:
        port = free_port()
        child = self._run(
            "the mediator",
            TWISTD,
            [
                "-n",
                "mediator",
                "--listen",
                f"tcp:{port}:interface={LOOPBACK}",
                "--udp",
                f"{port}:interface={LOOPBACK}",
                "--relay",
                f"http://{LOOPBACK}:{relay_port}",
            ],
        )
        await child.wait_for(rf"on udp \S+:{port}\b", READY_TIMEOUT)
        self.mediator = MediatorAddress(LOOPBACK, port)
        self._console.message(f"mediator  {self.mediator}")

    def _run_web_server(self) -> ChildProcess:
        return self._run(
            "the web server",
            TWISTD,
            [
                "-n",
                "web",
                f"--path={self.published}",
                f"--listen=tcp:0:interface={LOOPBACK}",
            ],
        )

    async def _start_server(self, web_port: int) -> None:
        child = self._run(
            "dwcloud serve",
            DWCLOUD,
            [
                "serve",
                f"{SERVICE}={LOOPBACK}:{web_port}",
                "--mediator",
                str(self.mediator),
                "--identity",
                str(self._directory / "identity"),
                "--interface",
                LOOPBACK,
                "--json",
            ],
        )
        online = await child.wait_for(r'^\{"event": "online".*', READY_TIMEOUT)
        self.peer = PeerName.parse(json.loads(online[0])["peer"])
        self._console.message(f"server    {self.peer}")


async def _port_of(child: ChildProcess) -> int:
    """The port on which a program of Twisted's listens, when it does."""
    started = await child.wait_for(r"starting on (\d+)", READY_TIMEOUT)
    return int(started[1])


def free_port() -> int:
    """A port number that is free for TCP and UDP alike, as a mediator wants it.

    :raises CommandFailed: if none is found.
    """
    (port,) = free_ports(1)
    return port


def free_ports(count: int) -> list[int]:
    """Different port numbers, each free for TCP and UDP alike.

    :raises CommandFailed: if so many are not found.
    """
    found: list[int] = []
    # All are held until the last is found, or one could be given out twice.
    with contextlib.ExitStack() as held:
        for _ in range(100 * count):
            stream = held.enter_context(socket.socket(type=socket.SOCK_STREAM))
            datagrams = held.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            stream.bind((LOOPBACK, 0))
            port = int(stream.getsockname()[1])
            try:
                datagrams.bind((LOOPBACK, port))
            except OSError:
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise CommandFailed("no port number is free for both TCP and UDP on loopback")
