"""The attempts that are made of what is known of a server."""

from __future__ import annotations

from typing import Any, cast

from dwcloud.net.udp import SharedUDPPort
from dwcloud.peer.attempts import AttemptMaker
from dwcloud.peer.status import PathKind
from dwcloud.protocol.addresses import Address
from tests.unit.peer.path_world import SESSION, PathWorldTestCase


class AttemptTests(PathWorldTestCase):
    """Names, kinds, delays and what they do."""

    def setUp(self) -> None:
        super().setUp()
        self.maker = AttemptMaker(
            self.client_host.reactor, self.identity.name, SESSION, "me"
        )

    def test_each_address_once(self) -> None:
        """An address that is named twice is tried once, in the order given."""
        one, two = Address("192.0.2.1", 5), Address("2001:db8::1", 6)
        attempts = self.maker.tcp([two, one, two], 0.5)
        self.assertEqual(
            [(a.name, a.kind, a.delay) for a in attempts],
            [
                ("tcp [2001:db8::1]:6", PathKind.TCP, 0.5),
                ("tcp 192.0.2.1:5", PathKind.TCP, 0.5),
            ],
        )
        port = cast(SharedUDPPort, None)
        attempts = self.maker.rendezvous(port, [one, one], 0.0, 15.0)
        self.assertEqual([a.name for a in attempts], ["udp 192.0.2.1:5"])
        attempts = self.maker.relay(["http://r:1", "http://r:1"], 0.1)
        self.assertEqual(
            [(a.name, a.kind) for a in attempts],
            [("relay http://r:1", PathKind.RELAY)],
        )
        self.assertEqual(self.maker.tunnel(port, one).name, "tunnel 192.0.2.1:5")

    def test_direct(self) -> None:
        """An attempt over TCP leads to a verified path."""
        (attempt,) = self.maker.tcp([Address("192.168.1.2", 4000)], 0.0)
        path: Any = self.world.run_until(attempt.start(lambda path: None))
        self.assertEqual((path.kind, path.attempt), (PathKind.TCP, attempt.name))
        self.assertEqual(path.server, self.identity.name)

    def test_started_twice(self) -> None:
        """Each start is a path of its own."""
        (attempt,) = self.maker.lan([Address("192.168.1.2", 4000)])
        one = self.world.run_until(attempt.start(lambda path: None))
        two = self.world.run_until(attempt.start(lambda path: None))
        self.assertIsNot(one, two)

    def test_interface(self) -> None:
        """A client that is restricted to an interface connects from it."""
        self.lan.attach(self.client_host, "192.168.1.33")
        maker = AttemptMaker(
            self.client_host.reactor,
            self.identity.name,
            SESSION,
            interface="192.168.1.33",
        )
        (attempt,) = maker.tcp([Address("192.168.1.2", 4000)], 0.0)
        path: Any = self.world.run_until(attempt.start(lambda path: None))
        self.assertEqual(path._stream.getHost().host, "192.168.1.33")
