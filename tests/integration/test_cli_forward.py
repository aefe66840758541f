"""``dwcloud forward`` between real programs, over each kind of path."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.cli.child_processes import ChildProcess
from dwcloud.cli.demo_cloud import LOOPBACK
from tests.integration.cloud import READY_TIMEOUT, CloudTestCase


@implementer(IHalfCloseableProtocol)
class Exchange(Protocol):
    """Sends data and its end, and keeps what comes back until the end of that.

    :ivar done: fires with what came back.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._received: list[bytes] = []
        self.done: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        """Send, then half-close."""
        transport: Any = self.transport
        transport.write(self._data)
        transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        """Keep."""
        self._received.append(data)

    def readConnectionLost(self) -> None:
        """The far end has ended, too."""
        assert self.transport is not None
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our own end is out."""

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Tell what came."""
        self.done.callback(b"".join(self._received))


@implementer(IHalfCloseableProtocol)
class Stalled(Protocol):
    """Reads nothing until it is told to, and then to the end.

    :ivar opened: fires when a connection is there.
    :ivar ended: fires with the bytes received.
    """

    def __init__(self) -> None:
        self.received = 0
        self.opened: Deferred[None] = Deferred()
        self.ended: Deferred[int] = Deferred()

    def connectionMade(self) -> None:
        """Read nothing."""
        transport: Any = self.transport
        transport.pauseProducing()
        self.opened.callback(None)

    def go_on(self) -> None:
        """Read."""
        transport: Any = self.transport
        transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        """Count."""
        self.received += len(data)

    def readConnectionLost(self) -> None:
        """That was all."""
        assert self.transport is not None
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Nothing is written."""

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Tell."""
        self.ended.callback(self.received)


@implementer(IPushProducer)
class Flood(Protocol):
    """Sends for as long as it may.

    :ivar written: bytes so far.
    :ivar stalled: fires when it has not been allowed to send for a second.
    """

    def __init__(self, reactor: Any, total: int) -> None:
        self._reactor = reactor
        self._total = total
        self._stop = False
        self._paused = False
        self._waiting: IDelayedCall | None = None
        self.written = 0
        self.stalled: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        """Send from now on."""
        transport: Any = self.transport
        transport.registerProducer(self, True)
        self.resumeProducing()

    def pauseProducing(self) -> None:
        """Wait; for ever, as far as this tells."""
        self._paused = True
        if not self.stalled.called:
            self._waiting = self._reactor.callLater(1.0, self.stalled.callback, None)

    def resumeProducing(self) -> None:
        """Send on."""
        self._paused = False
        if self._waiting is not None and self._waiting.active():
            self._waiting.cancel()
        assert self.transport is not None
        while not self._paused and not self._stop and self.written < self._total:
            self.written += 65536
            self.transport.write(bytes(65536))
        if self._stop:
            self.stop()

    def stop(self) -> None:
        """Send no more than what is written."""
        transport: Any = self.transport
        self._stop = True
        transport.unregisterProducer()
        transport.loseConnection()

    def stopProducing(self) -> None:
        """The connection is gone."""
        self._stop = True


class ForwardTests(CloudTestCase):
    """A local port that leads to an echo service."""

    async def forward(self, mediator: str, peer: str, *words: str) -> ChildProcess:
        """Start it on free ports."""
        child = self.start_dwcloud(
            "forward", peer, *words, "--mediator", mediator, "--interface", LOOPBACK
        )
        await child.wait_for("->|listening", READY_TIMEOUT)
        return child

    async def local_port(self, child: ChildProcess, service: str = "echo") -> int:
        """The port that was chosen for a service."""
        line = await child.wait_for(rf":(\d+) -> {service}", READY_TIMEOUT)
        return int(line[1])

    async def exchange(self, port: int, data: bytes) -> bytes:
        """Send ``data`` there and return what comes back."""
        protocol = Exchange(data)
        await connectProtocol(
            TCP4ClientEndpoint(self.reactor, LOOPBACK, port), protocol
        )
        return await protocol.done

    async def check_path(self, path: str) -> None:
        """Everything sent over ``path`` comes back, half-close included."""
        mediator = self.start_cloud()
        peer, _ = await self.serve(mediator, f"echo={LOOPBACK}:{self.start_echo()}")
        child = await self.forward(mediator, peer, "0:echo", "--path", path)
        port = await self.local_port(child)
        data = os.urandom(5_000_000)
        received = await self.exchange(port, data)
        self.assertEqual(len(received), len(data))
        self.assertEqual(received, data)
        await child.wait_for(f"echo: connected by {path} to ", READY_TIMEOUT)

    async def test_lan(self) -> None:
        """Over the LAN."""
        await self.check_path("lan")

    async def test_tcp(self) -> None:
        """Over direct TCP."""
        await self.check_path("tcp")

    async def test_udp(self) -> None:
        """Over a punched hole."""
        await self.check_path("udp")

    async def test_relay(self) -> None:
        """Over the relay."""
        await self.check_path("relay")

    async def test_many_connections(self) -> None:
        """Many connections to two services at once, all by whatever works."""
        mediator = self.start_cloud()
        peer, _ = await self.serve(
            mediator,
            f"one={LOOPBACK}:{self.start_echo()}",
            f"two={LOOPBACK}:{self.start_echo()}",
        )
        child = await self.forward(mediator, peer, "0:one", "0:two")
        ports = [await self.local_port(child, name) for name in ("one", "two")]
        data = [os.urandom(10_000) for _ in range(20)]
        received = await gatherResults(
            [
                Deferred.fromCoroutine(self.exchange(ports[number % 2], each))
                for number, each in enumerate(data)
            ]
        )
        self.assertEqual(received, data)

    async def test_json(self) -> None:
        """Ports and connections are told in JSON, a line for each."""
        mediator = self.start_cloud()
        peer, _ = await self.serve(mediator, f"echo={LOOPBACK}:{self.start_echo()}")
        child = await self.forward(
            mediator, peer, "0:echo", "--json", "--path", "relay"
        )
        line = await child.wait_for(r'^\{"event": "listening".*', READY_TIMEOUT)
        listening = json.loads(line[0])
        self.assertEqual(listening["service"], "echo")
        port = int(re.findall(r":(\d+)$", listening["address"])[0])
        self.assertEqual(await self.exchange(port, b"hello"), b"hello")
        line = await child.wait_for(r'^\{"event": "connected".*', READY_TIMEOUT)
        report = json.loads(line[0])
        self.assertEqual(report["path"], "relay")
        self.assertEqual(report["peer"], peer)
        self.assertEqual(report["failures"], [])
        self.assertGreater(report["connect_seconds"], 0)
        self.assertIn(f"{LOOPBACK}:", report["remote_address"])

    async def test_system_name(self) -> None:
        """The name of the system alone leads to its server."""
        mediator = self.start_cloud()
        peer, _ = await self.serve(mediator, f"echo={LOOPBACK}:{self.start_echo()}")
        system = peer.split(".")[1]
        child = await self.forward(mediator, system, "0:echo", "--path", "tcp")
        port = await self.local_port(child)
        self.assertEqual(await self.exchange(port, b"hello"), b"hello")

    async def test_back_pressure(self) -> None:
        """A service that does not read stops the sender, and then gets everything."""
        taken = Stalled()
        port = self.listen(Factory.forProtocol(lambda: taken))
        mediator = self.start_cloud()
        peer, _ = await self.serve(mediator, f"sink={LOOPBACK}:{port}")
        child = await self.forward(mediator, peer, "0:sink", "--path", "tcp")
        port = await self.local_port(child, "sink")
        sender = Flood(self.reactor, total=200_000_000)
        await connectProtocol(TCP4ClientEndpoint(self.reactor, LOOPBACK, port), sender)
        await taken.opened
        await sender.stalled
        self.assertLess(sender.written, 60_000_000)
        sender.stop()
        taken.go_on()
        self.assertEqual(await taken.ended, sender.written)

    async def test_interrupted(self) -> None:
        """Interrupting it is how it ends: exit code 0."""
        mediator = self.start_mediator()
        child = await self.forward(
            mediator, "0190163d-8694-8c3e-9a00-7ab7d7b42e1d", "0:web"
        )
        await child.stop()
        self.assertEqual(child.exit_code, 0)
