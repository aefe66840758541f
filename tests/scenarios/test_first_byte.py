"""Round trips to the first byte, exactly: nothing else takes time in this world.

The figures with real programs are those of ``benchmarks/connect.py``.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.peer.client import CloudClient, ConnectOptions
from tests.scenarios.cloud_world import CloudWorld


class Greeter(Protocol):
    """A service that speaks first."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"!")


class Greeted(Protocol):
    """Waits for the first byte."""

    def __init__(self) -> None:
        self.heard: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        if not self.heard.called:
            self.heard.callback(None)


class FirstByteTests(SynchronousTestCase):
    """A server and a client with public addresses, a mediator and a relay."""

    def setUp(self) -> None:
        self.set_up(one_host=True)

    def set_up(self, *, one_host: bool) -> None:
        """Make a cloud.

        :param one_host: whether the relay is where clients assume it.
        """
        self.cloud = CloudWorld(discovery=False, one_host=one_host)
        internet = self.cloud.internet
        self.server_host = internet.host("198.51.100.1", name="server")
        self.client_host = internet.host("198.51.100.2", name="client")
        self.opened: list[Any] = []
        services = {
            name: Factory.forProtocol(self.make_greeter) for name in ("tls", "plain")
        }
        self.server = self.cloud.serve(
            self.server_host,
            lan=False,
            portMapping=(),
            services=services,
            plainServices=["plain"],
        )
        self.cloud.wait_online(self.server_host)
        self.cloud.world.advance(2.0)
        self.round_trip = self.measure_round_trip()

    def make_greeter(self) -> Greeter:
        self.opened.append(Greeter())
        return self.opened[-1]

    def measure_round_trip(self) -> float:
        """Seconds from one host to another and back: TCP takes one."""
        endpoint = TCP4ClientEndpoint(
            self.client_host.reactor, self.cloud.relay_host.address, 3349
        )
        began = self.cloud.world.seconds()
        made: Any = self.cloud.world.run_until(connectProtocol(endpoint, Protocol()))
        took: float = self.cloud.world.seconds() - began
        made.transport.abortConnection()
        self.cloud.world.advance(1.0)
        return took

    def first_byte(self, client: CloudClient, service: str, path: str) -> float:
        """Round trips from the call to the first byte."""
        options = ConnectOptions(path=path, tls=service != "plain")
        began = self.cloud.world.seconds()
        connecting = client.connect(
            self.server.identity.name,
            service,
            Factory.forProtocol(Greeted),
            options,
            self.cloud.reports.append,
        )
        made: Any = self.cloud.world.run_until(connecting, 10.0)
        if not made.heard.called:
            self.cloud.world.run_until(made.heard, 10.0)
        took: float = self.cloud.world.seconds() - began
        if path != "auto":
            self.assertEqual(self.cloud.reports[-1].path, path)
        made.transport.abortConnection()
        self.cloud.world.advance(1.0)
        return took / self.round_trip

    def assertRoundTrips(self, path: str, cold: int, tls: int, plain: int) -> None:
        """So many for the first stream, a further one, and one without TLS."""
        client = self.cloud.client(self.client_host, lan=False)
        self.cloud.world.advance(1.0)
        for service, most in (("tls", cold), ("tls", tls), ("plain", plain)):
            took = self.first_byte(client, service, path)
            self.assertApproximates(took, most, 0.2, f"{path}, {service}")
        self.assertEqual(len(self.opened), 3, "the service is connected once for each")

    def test_udp(self) -> None:
        """Mediator 2, meeting 1, TLS 1, service 1; through an open hole TLS and 1."""
        self.assertRoundTrips("udp", 5, 2, 1)

    def test_tcp(self) -> None:
        """Mediator 1, TCP 1, TLS 1, service 1; nothing is kept for the next."""
        self.assertRoundTrips("tcp", 4, 4, 3)

    def test_relay(self) -> None:
        """Mediator and TCP 1, then by way of the relay: TLS 2, service 2."""
        self.assertRoundTrips("relay", 5, 5, 4)

    def test_relay_elsewhere(self) -> None:
        """A relay that has to be named first costs one more, once."""
        self.set_up(one_host=False)
        self.assertRoundTrips("relay", 6, 5, 4)

    def test_any_path(self) -> None:
        """With all paths in a race it is what the fastest of them takes."""
        client = self.cloud.client(self.client_host, lan=False)
        self.cloud.world.advance(1.0)
        self.assertLess(self.first_byte(client, "tls", "auto"), 5.2)
        self.assertEqual(len(self.opened), 1)

    def test_told_too_late(self) -> None:
        """A server that learns of the session after the client came is asked again."""
        sessions: Any = self.server.acceptor.sessions
        use, unknown = sessions.use, [2]

        def late(session: Any) -> Any:
            unknown[0] -= 1
            return None if unknown[0] >= 0 else use(session)

        self.patch(sessions, "use", late)
        client = self.cloud.client(self.client_host, lan=False)
        for path in ("tcp", "relay"):
            unknown[0] = 1
            took = self.first_byte(client, "tls", path) * self.round_trip
            self.assertGreater(took, 0.5)
            self.assertLess(took, 1.0)
        self.assertEqual(len(self.opened), 2)
