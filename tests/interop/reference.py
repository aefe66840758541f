"""The reference UDT library as a process, and our own port on a plain socket."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable

import attrs

from dwcloud.protocol.udt import (
    Configuration,
    Connection,
    ConnectionClosed,
    DataAvailable,
    Event,
    MessageConnection,
    Multiplexer,
)
from tests.requirements import require

SOURCE = pathlib.Path(__file__).with_name("reference_peer.cpp")
HEADER = pathlib.Path("/usr/include/udt/udt.h")
PATIENCE = 120.0
"""Seconds for what comes at once, on a machine with much else to do."""
_built: pathlib.Path | None = None


def reference_program() -> pathlib.Path:
    """Return the compiled program, made once in a run of the tests."""
    global _built
    compiler = shutil.which("g++")
    require(compiler, "g++ is not installed (Debian: g++)")
    require(HEADER.exists(), f"{HEADER} does not exist (Debian: libudt-dev)")
    if _built is None:
        program = pathlib.Path(tempfile.mkdtemp(prefix="udt-")) / "reference_peer"
        command = [str(compiler), "-O2", "-o", str(program), str(SOURCE)]
        subprocess.run([*command, "-ludt", "-lpthread"], check=True)
        _built = program
    return _built


def free_port() -> int:
    """Return a UDP port of the loopback interface that nobody uses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@attrs.define
class Reference:
    """A running reference peer."""

    process: subprocess.Popen[bytes]
    received: pathlib.Path

    @classmethod
    def start(
        cls,
        directory: pathlib.Path,
        mode: str,
        local_port: int,
        remote_port: int,
        data: bytes,
        receive_bytes: int,
        **options: int,
    ) -> Reference:
        """Start one and wait until its port is bound.

        :param options: see ``reference_peer.cpp``.
        """
        to_send = directory / f"send-{local_port}"
        received = directory / f"received-{local_port}"
        to_send.write_bytes(data)
        command = [
            str(reference_program()),
            mode,
            str(local_port),
            str(remote_port),
            str(to_send),
            str(received),
            str(receive_bytes),
            *[f"{name}={value}" for name, value in options.items()],
        ]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        reference = cls(process, received)
        if reference.line() != b"ready":
            raise AssertionError(f"{mode} did not start: {process.wait()}")
        return reference

    def line(self) -> bytes:
        """Wait for the next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        """Let it read, if it was started with ``wait=1``."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None

    def digest(self, suffix: str = "") -> str:
        """Return the SHA-256 of what it received."""
        path = self.received.with_name(self.received.name + suffix)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def messages(self) -> list[bytes]:
        """Return the messages that it received."""
        return split_messages(self.received.read_bytes())

    def stop(self) -> None:
        """End it if it has not ended, and clean up."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


def join_messages(messages: Iterable[bytes]) -> bytes:
    """Return messages in a row, each after its length."""
    return b"".join(len(message).to_bytes(4) + message for message in messages)


def split_messages(data: bytes) -> list[bytes]:
    """Return the messages that :func:`join_messages` has put in a row."""
    messages = []
    while data:
        size = 4 + int.from_bytes(data[:4])
        messages.append(data[4:size])
        data = data[size:]
    return messages


class SocketPort:
    """A multiplexer on a UDP socket with the simplest possible loop.

    :param host: the loopback address to bind.
    :ivar drop: decides which datagrams are lost, in both directions.
    :ivar drop_sent: decides which of those sent are lost.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        *,
        random_bytes: Callable[[int], bytes] = os.urandom,
        **settings: object,
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind((host, 0))
        self.socket.setblocking(False)
        self.number: int = self.socket.getsockname()[1]
        self.drop: Callable[[bytes], bool] = lambda data: False
        self.drop_sent: Callable[[bytes], bool] = lambda data: False
        self.multiplexer = Multiplexer(
            configuration=Configuration(**settings),
            random_bytes=random_bytes,
            now=time.monotonic(),
        )
        self.messages: list[bytes] = []
        self.events: list[Event] = []
        self.received: dict[Connection, bytearray] = {}

    def close(self) -> None:
        """Give the socket back."""
        self.socket.close()

    def flush(self) -> None:
        """Send what is due and take the events."""
        for transmit in self.multiplexer.datagrams_to_send(now=time.monotonic()):
            for data in transmit.datagrams():
                if not (self.drop(data) or self.drop_sent(data)):
                    self._send(data, transmit.address)
        while (event := self.multiplexer.next_event()) is not None:
            self.events.append(event)
            self.received.setdefault(event.connection, bytearray())
            if isinstance(event, DataAvailable):
                self._read(event.connection)

    def _read(self, connection: Connection) -> None:
        if isinstance(connection, MessageConnection):
            while (message := connection.read_message()) is not None:
                self.messages.append(message)
        else:
            self.received[connection] += connection.read()

    def _send(self, data: bytes, address: tuple[str, int]) -> None:
        # A full queue or a port that is not open yet: lost, as on the way.
        with contextlib.suppress(OSError):
            self.socket.sendto(data, address)

    def run(self, until: Callable[[], bool], seconds: float = PATIENCE) -> bool:
        """Run until something is true; return whether it became so in time."""
        end = time.monotonic() + seconds
        while True:
            self.flush()
            if until():
                return True
            now = time.monotonic()
            if now > end:
                return False
            timer = self.multiplexer.next_timer()
            wait = 0.1 if timer is None else min(0.1, max(0.0, timer - now))
            if select.select([self.socket], [], [], wait)[0]:
                self._receive()
            self.multiplexer.handle_timer(now=time.monotonic())

    def _receive(self) -> None:
        for _ in range(64):
            try:
                data, address = self.socket.recvfrom(65536)
            except OSError:
                return
            if not self.drop(data):
                now = time.monotonic()
                self.multiplexer.receive_datagram(data, address[:2], now=now)

    def connections_up(self) -> list[Connection]:
        """Return the connections that have had an event and are not closed."""
        closed = {e.connection for e in self.events if isinstance(e, ConnectionClosed)}
        return [connection for connection in self.received if connection not in closed]
