"""Small programs that the tests run on simulated hosts."""

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IPullProducer,
    IPushProducer,
)
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from zope.interface import implementer


class Recorder(Protocol):
    """Keeps what it receives and how it ended."""

    def __init__(self):
        self.received = bytearray()
        self.reason = None
        self.made = 0

    def connectionMade(self):
        self.made += 1

    def dataReceived(self, data):
        self.received += data

    def connectionLost(self, reason):
        self.reason = reason


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Recorder):
    """A recorder that lives on when one direction ends."""

    read_lost = write_lost = False

    def readConnectionLost(self):
        self.read_lost = True

    def writeConnectionLost(self):
        self.write_lost = True


class Server(Factory):
    """Makes recorders and keeps them."""

    noisy = False

    def __init__(self, protocol=Recorder):
        self.make = protocol
        self.protocols = []

    def buildProtocol(self, addr):
        protocol = self.make()
        protocol.factory = self
        self.protocols.append(protocol)
        return protocol


@implementer(IPushProducer)
class PushProducer:
    """Writes whenever it is not paused."""

    def __init__(self, transport, total, clock):
        self.transport = transport
        self.left = total
        self.clock = clock
        self.is_paused = False
        self.pauses = 0
        self.is_stopped = False

    def start(self):
        self.transport.registerProducer(self, True)
        self.clock.callLater(0.0, self.produce)

    def produce(self):
        while self.left and not self.is_paused and not self.is_stopped:
            size = min(4096, self.left)
            self.left -= size
            self.transport.write(b"p" * size)
        if not self.left and not self.is_stopped:
            self.is_stopped = True
            self.transport.unregisterProducer()

    def pauseProducing(self):
        self.pauses += 1
        self.is_paused = True

    def resumeProducing(self):
        self.is_paused = False
        self.clock.callLater(0.0, self.produce)

    def stopProducing(self):
        self.is_stopped = True


@implementer(IPullProducer)
class PullProducer:
    """Writes one piece each time it is asked."""

    def __init__(self, transport, pieces):
        self.transport = transport
        self.left = pieces

    def resumeProducing(self):
        self.left -= 1
        self.transport.write(b"q" * 1000)
        if not self.left:
            self.transport.unregisterProducer()

    def stopProducing(self):
        self.left = 0


class Datagrams(DatagramProtocol):
    """Keeps the datagrams it receives."""

    def __init__(self):
        self.received = []
        self.refusals = 0

    def datagramReceived(self, datagram, addr):
        self.received.append((datagram, tuple(addr)))

    def connectionRefused(self):
        self.refusals += 1


def connect(reactor, host, port, protocol=None, **kwargs):
    """Connect a protocol by an endpoint."""
    endpoint = TCP4ClientEndpoint(reactor, host, port, **kwargs)
    return connectProtocol(endpoint, protocol or Recorder())
