"""Calls in which the server is to send first."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.peer import server_calls
from dwcloud.peer.guessing import Hole, governor_of
from dwcloud.peer.quiet_calls import QuietCall
from dwcloud.peer.quiet_introduction import QuietIntroduction
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.nat import Filtering, Mapping, NATSummary
from dwcloud.testing import (
    LINUX_WITHOUT_FIREWALL,
    PORT_RESTRICTED,
    SYMMETRIC_SEQUENTIAL,
    UDP,
    Firewall,
    NATBehaviour,
)
from tests.unit.mediator.world import MediatedWorld, SimulatedClient, SimulatedServer

STRICT = Filtering.ADDRESS_AND_PORT_DEPENDENT
FIXED = NATSummary(Mapping.ENDPOINT_INDEPENDENT, STRICT)
COUNTING = NATSummary(Mapping.ADDRESS_AND_PORT_DEPENDENT, STRICT, 1)
CLIENT, SERVER = "203.0.113.7", "203.0.113.8"


class QuietCallTests(SynchronousTestCase):
    """One call, with the real mediator, client and server."""

    def setUp(self) -> None:
        self.world = MediatedWorld()
        self.found: list[tuple[Hole, Address]] = []

    def start(
        self,
        client: NATBehaviour = PORT_RESTRICTED,
        server: NATBehaviour = LINUX_WITHOUT_FIREWALL,
        nat: NATSummary = FIXED,
        step: int = 0,
        **options: Any,
    ) -> QuietCall:
        """Begin a call between two NATs."""
        internet = self.world.internet
        lan = internet.nat(CLIENT, client, **options)
        if "lan" in options:
            lan = lan.nat("100.64.0.9", PORT_RESTRICTED)
        home = internet.nat(SERVER, server).host("192.168.1.8", name="server")
        self.server = SimulatedServer(home)
        self.server.calls.nat = FIXED
        self.server.link.startService()
        self.world.world.run_until(lambda: self.server.online, 5.0)
        self.client = SimulatedClient(lan.host("192.168.1.9", name="client"))
        self.governor = governor_of(self.client.reactor)
        mediator, target = self.client.mediator, self.server.identity.name

        def introduce(hole: Hole) -> QuietIntroduction:
            return mediator.introduce_quietly(target, "me", None, hole, nat)

        call = QuietCall(
            self.client.reactor,
            introduce,
            lambda hole, introduction, address: self.found.append((hole, address)),
            step=step,
            interface=self.client.host.address,
            limit=15.0,
            random_bytes=self.world.world.random_bytes,
        )
        self.world.world.trace.clear()
        call.start()
        return call

    def wait_found(self) -> Address:
        """Wait for the address to connect to."""
        self.world.world.run_until(lambda: self.found, 5.0)
        _, address = self.found[0]
        return address

    def sent(self, origin: str, far_host: str) -> list[tuple[float, str]]:
        """Tell when datagrams of a host ended, sent to another one, and how."""
        return [
            (record.time, record.verdict)
            for record in self.world.world.trace.select(origin=origin, protocol=UDP)
            if record.destination.host in (far_host, "192.168.1.8", "192.168.1.9")
        ]

    def test_order(self) -> None:
        """What the client sends first gets lost before it is at the server's router."""
        self.start()
        address = self.wait_found()
        self.assertEqual(address.host, SERVER)
        first, *others = self.sent("client", SERVER)
        self.assertEqual(first[1], "time to live exceeded")
        self.assertEqual({verdict for _, verdict in others}, {"delivered"})
        heard, verdict = self.sent("server", CLIENT)[0]
        self.assertEqual(verdict, "delivered")
        self.assertLess(heard, others[0][0])

    def test_port_of_its_own(self) -> None:
        """The server calls from another port than its usual one."""
        self.start()
        address = self.wait_found()
        self.assertNotEqual(address.port, self.server.address.port)
        self.assertEqual((len(self.server.calls), self.server.punched), (1, []))

    def test_client_in_sequence(self) -> None:
        """The server's guess goes to the port that was just opened for it."""
        self.start(SYMMETRIC_SEQUENTIAL, nat=COUNTING)
        self.assertEqual(self.wait_found().host, SERVER)
        heard = [
            record for record in self.sent("server", CLIENT) if record[1] == "delivered"
        ]
        self.assertTrue(heard)

    def test_server_in_sequence(self) -> None:
        """The client's router is open for the ports that the server may get."""
        self.start(LINUX_WITHOUT_FIREWALL, SYMMETRIC_SEQUENTIAL, step=1)
        self.assertEqual(self.wait_found().host, SERVER)

    def test_not_heard(self) -> None:
        """Behind a second router the server is not heard: its port is tried at last."""
        self.start(lan="100.64.0.0/24")
        address = self.wait_found()
        self.assertEqual(address.host, SERVER)
        self.assertEqual({v for _, v in self.sent("server", CLIENT)}, {"no mapping"})

    def test_server_without_ports(self) -> None:
        """A server that has no further port uses its usual one, as older ones do."""
        self.patch(server_calls, "_MOST", 0)
        self.start(server=PORT_RESTRICTED)
        address = self.wait_found()
        self.assertEqual(address, Address(SERVER, self.server.address.port))
        self.assertEqual(
            [bool(request.udp_endpoints) for request in self.server.punched],
            [False, True],
        )

    def test_no_udp(self) -> None:
        """Where UDP gets no answer nobody else is asked, and the port is closed."""
        self.start(firewall=Firewall(block_udp=True))
        self.assertEqual(self.governor.mappings, 1)
        self.world.world.advance(5.0)
        self.assertEqual((self.found, self.governor.mappings), ([], 0))
        self.assertEqual(len(self.server.calls), 0)

    def test_offline(self) -> None:
        """A server that has gone cannot be called."""
        call = self.start()
        self.world.world.run_until(self.server.link.stopService(), 1.0)
        self.world.world.advance(5.0)
        self.assertEqual((self.found, self.governor.mappings), ([], 0))
        call.stop()

    def test_stop(self) -> None:
        """It can be given up at any moment; what was given away stays."""
        call = self.start()
        for _ in range(4):
            self.world.world.advance(0.02)
        call.stop()
        self.world.world.advance(5.0)
        self.assertEqual((self.found, self.governor.mappings), ([], 0))

    def test_given_away(self) -> None:
        """The hole belongs to whom it was given."""
        call = self.start()
        self.wait_found()
        call.stop()
        self.assertEqual(self.governor.mappings, 1)
        hole, _ = self.found[0]
        hole.close()
        self.assertEqual(self.governor.mappings, 0)

    def test_too_many(self) -> None:
        """Where the process has no more sockets nothing is done."""
        call = self.start()
        call.stop()
        while self.governor.take_mapping():
            pass
        held = self.governor.mappings
        call.start()
        self.world.world.advance(5.0)
        self.assertEqual((self.found, self.governor.mappings), ([], held))
