"""What a peer knows of the NAT before it."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.udp import SharedUDPPort
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.nat_knowledge import NATKnowledge
from dwcloud.protocol.nat import Mapping, NATSummary
from tests.scenarios.cloud_world import MEDIATOR_PORT, CloudWorld
from tests.scenarios.test_nat_table import behind


class NATKnowledgeTests(SynchronousTestCase):
    """A host behind a NAT that gives out ports in sequence."""

    def make(self, *, discovery: bool = True) -> None:
        """Build a cloud, and a host in it."""
        self.cloud = CloudWorld(discovery=discovery)
        self.host = behind(self.cloud, "symmetric-seq", 1, "host")
        port = SharedUDPPort(self.host.reactor, interface=self.host.address)
        port.start()
        mediator = MediatorAddress(self.cloud.mediator_host.address, MEDIATOR_PORT)
        self.nat = NATKnowledge(
            self.host.reactor, port, mediator, interface=self.host.address
        )

    def asked(self) -> int:
        """Datagrams that the mediator got."""
        return self.cloud.mediator.mediator.statistics.datagrams_received

    def test_found_out(self) -> None:
        """All who ask share one exploration; the mapping is told before the rest."""
        self.make()
        self.assertIsNone(self.nat.known)
        one, other = self.nat.find_out(), self.nat.find_out()
        first = self.cloud.world.run_until(one, 1.0)
        assert first is not None
        self.assertEqual(first.mapping, Mapping.ADDRESS_AND_PORT_DEPENDENT)
        self.assertEqual((first.port_step, first.filtering), (1, None))
        self.assertEqual(self.successResultOf(other), first)
        self.cloud.world.advance(5.0)
        assert self.nat.known is not None
        self.assertIsNotNone(self.nat.known.filtering)

    def test_remembered(self) -> None:
        """It is asked again after ten minutes, or in another network."""
        self.make()
        self.nat.find_out()
        self.cloud.world.advance(5.0)
        asked = self.asked()
        self.assertIsInstance(self.successResultOf(self.nat.find_out()), NATSummary)
        self.assertEqual(self.asked(), asked)
        self.nat.forget()
        self.assertIsNone(self.nat.known)
        self.assertNoResult(self.nat.find_out())
        self.cloud.world.advance(700.0)
        self.assertGreater(self.asked(), asked)
        self.assertIsNone(self.nat.known)

    def test_nothing_to_know(self) -> None:
        """A mediator with one address leaves it unknown, which is no failure."""
        self.make(discovery=False)
        finding = self.nat.find_out()
        self.cloud.world.advance(5.0)
        self.assertIsNone(self.successResultOf(finding))

    def test_stopped(self) -> None:
        """Stopping ends the exploration."""
        self.make()
        given_up, waiting = self.nat.find_out(), self.nat.find_out()
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        self.nat.stop()
        self.assertIsNone(self.successResultOf(waiting))
        self.cloud.world.advance(0.1)
        asked = self.asked()
        self.cloud.world.advance(10.0)
        self.assertEqual(self.asked(), asked)
