"""Simulated hosts for streams, and protocols that record what happens on them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dwcloud.net.cloud_stream import CloudStream
from dwcloud.net.identity import ServerIdentity, SystemIdentity
from dwcloud.net.tls import PeerVerifier, ServerTLS
from dwcloud.protocol.opening.messages import Message
from dwcloud.testing import World


@functools.cache
def test_identity(number: int = 0) -> ServerIdentity:
    """One of a few identities, made once for all tests."""
    return SystemIdentity.generate().issue_server()


test_identity.__test__ = False  # type: ignore[attr-defined]


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes in which nothing repeats, to find what is lost, doubled or swapped."""
    return hashlib.shake_256(b"%d" % seed).digest(size)


class Recorder(Protocol):
    """Keeps what it is told."""

    transport: Any

    def __init__(self) -> None:
        self.data = bytearray()
        self.calls: list[str] = []
        self.lost: BaseException | None = None

    def connectionMade(self) -> None:
        self.calls.append("made")

    def dataReceived(self, data: bytes) -> None:
        if self.calls[-1:] != ["data"]:
            self.calls.append("data")
        self.data += data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.calls.append("lost")
        self.lost = reason.value


@implementer(IHalfCloseableProtocol)
class HalfRecorder(Recorder):
    """One that knows the end of a direction."""

    def readConnectionLost(self) -> None:
        self.calls.append("read ended")

    def writeConnectionLost(self) -> None:
        self.calls.append("write ended")


@implementer(IPushProducer)
class Source:
    """Writes all of ``data`` as fast as it is let, then unregisters.

    :ivar written: how many bytes so far.
    """

    def __init__(self, reactor: Any, transport: Any, data: bytes) -> None:
        self.written = 0
        self.stopped = False
        self.paused = False
        self._reactor = reactor
        self._transport = transport
        self._data = data
        transport.registerProducer(self, True)
        reactor.callLater(0, self._write)

    def _write(self) -> None:
        if self.paused or self.stopped:
            return
        piece = self._data[self.written : self.written + 16384]
        if not piece:
            self.stopped = True
            self._transport.unregisterProducer()
            return
        self.written += len(piece)
        self._transport.write(piece)
        self._reactor.callLater(0, self._write)

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        if self.paused:
            self.paused = False
            self._reactor.callLater(0, self._write)

    def stopProducing(self) -> None:
        self.stopped = True


class AttachAtOnce:
    """A stream's owner that gives it to an application as soon as it can."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self.lost: BaseException | None = None
        self.messages: list[Message] = []

    def path_connected(self, stream: CloudStream) -> None:
        if self.application is not None:
            stream.attach(self.application)

    def path_secured(self, stream: CloudStream) -> None:
        """TLS is up."""

    def message_received(self, stream: CloudStream, message: Message) -> None:
        self.messages.append(message)

    def path_lost(self, stream: CloudStream, reason: Failure) -> None:
        self.lost = reason.value


class StreamWorldTestCase(SynchronousTestCase):
    """A server and a client in one simulated network."""

    def setUp(self) -> None:
        self.world = World()
        self.lan = self.world.lan()
        self.server_host = self.lan.host("192.168.1.2", name="server")
        self.client_host = self.lan.host("192.168.1.3", name="client")

    def assertSame(self, received: bytes, sent: bytes) -> None:
        """The same bytes, told by their hashes."""
        self.assertEqual(
            (len(received), hashlib.sha256(received).hexdigest()),
            (len(sent), hashlib.sha256(sent).hexdigest()),
        )

    def assertNoTimers(self) -> None:
        """No program waits for anything any more."""
        for host in self.world.hosts.values():
            self.assertEqual(list(host.reactor.getDelayedCalls()), [])

    def connect(
        self, listening: Any, connecting: Any, port: int = 4000, **options: Any
    ) -> Any:
        """Listen at the server and connect from the client; the connected protocol."""
        self.listen(listening, port)
        endpoint = TCP4ClientEndpoint(
            self.client_host.reactor, self.server_host.address, port, **options
        )
        return self.world.run_until(endpoint.connect(connecting))

    def listen(self, factory: Any, port: int = 4000) -> Any:
        """Listen at the server."""
        endpoint = TCP4ServerEndpoint(self.server_host.reactor, port)
        return self.world.run_until(endpoint.listen(factory))

    def streams(
        self, server_owner: AttachAtOnce, client_owner: AttachAtOnce
    ) -> tuple[CloudStream, CloudStream]:
        """A server's and a client's stream over TLS."""
        made: list[CloudStream] = []
        identity = test_identity()

        def build(owner: Any, host: Any) -> Callable[[], CloudStream]:
            def make() -> CloudStream:
                made.append(CloudStream(owner, host.reactor))
                return made[-1]

            return make

        def wrapped(owner: Any, host: Any, tls: Any, client: bool) -> Any:
            inner = Factory.forProtocol(build(owner, host))
            inner.noisy = False
            return TLSMemoryBIOFactory(tls, client, inner, host.reactor)

        server_tls = ServerTLS(identity)
        self.connect(
            wrapped(server_owner, self.server_host, server_tls, False),
            wrapped(client_owner, self.client_host, PeerVerifier(identity.name), True),
        )
        self.world.run_until(lambda: len(made) == 2)
        self.world.run_until_idle()
        client, server = sorted(made, key=lambda s: s.getPeer().port != 4000)
        return server, client
