"""The ports from which a server sends first."""

from __future__ import annotations

import uuid

from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.peer import server_calls
from dwcloud.peer.guessing import governor_of
from dwcloud.peer.server_calls import ServerCalls
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.messages import ConnectionRequested
from dwcloud.protocol.mediation.parameters import ConnectionParameters
from dwcloud.protocol.punching.governor import MAX_MAPPINGS
from dwcloud.testing import UDP, World

CLIENT = Address("198.51.100.2", 5000)


def request(*addresses: Address) -> ConnectionRequested:
    """Return what the mediator says of a client that waits."""
    return ConnectionRequested(
        session_id=uuid.uuid4(),
        token=bytes(16),
        client_name="me",
        udp_endpoints=addresses,
        parameters=ConnectionParameters(),
        server_first=True,
    )


class ServerCallsTests(SynchronousTestCase):
    """One port for each client, for as long as that is there."""

    def setUp(self) -> None:
        self.world = World()
        internet = self.world.internet()
        self.host = internet.host("198.51.100.1", name="server")
        self.client = internet.host(CLIENT.host, name="client")
        factory = Factory.forProtocol(Protocol)
        self.calls = ServerCalls(self.host.reactor, factory, self.host.address)
        self.governor = governor_of(self.host.reactor)

    def test_each_its_own(self) -> None:
        """Each client is sent to from another port, at once."""
        for _ in range(3):
            port = self.calls.open(request())
            assert port is not None
            port.punch(request(CLIENT))
        self.world.advance(0.2)
        records = self.world.trace.select(origin="server", protocol=UDP)
        self.assertEqual({record.destination for record in records}, {CLIENT})
        self.assertEqual(len({record.source for record in records}), 3)
        self.assertEqual((len(self.calls), self.governor.mappings), (3, 3))

    def test_nobody_comes(self) -> None:
        """A port to which no client comes is closed when the time for that is over."""
        self.calls.open(request())
        self.world.advance(15.0)
        self.assertEqual(self.governor.mappings, 1)
        self.world.advance(2.0)
        self.assertEqual((len(self.calls), self.governor.mappings), (0, 0))

    def test_stop(self) -> None:
        """All are closed at once."""
        port = self.calls.open(request())
        assert port is not None
        port.punch(request(CLIENT))
        self.calls.stop()
        self.world.run_until_idle()
        self.assertEqual((len(self.calls), self.governor.mappings), (0, 0))

    def test_limits(self) -> None:
        """Strangers can make it open so many, and leave some for others."""
        opened = [self.calls.open(request()) for _ in range(MAX_MAPPINGS)]
        self.assertEqual(sum(port is not None for port in opened), 100)
        self.assertEqual(self.governor.mappings, 100)
        self.assertTrue(self.governor.take_mapping())
        self.calls.stop()

    def test_no_ports_left(self) -> None:
        """Where the process has no more sockets, it does without."""
        self.patch(server_calls, "_MOST", MAX_MAPPINGS + 1)
        while self.governor.take_mapping():
            pass
        self.assertIsNone(self.calls.open(request()))
        self.assertEqual(len(self.calls), 0)
