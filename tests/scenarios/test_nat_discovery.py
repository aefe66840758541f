"""What hosts behind every kind of NAT find out about it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.nat_discovery import discover_nat
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.nat import Filtering, Mapping, NATBehaviour
from dwcloud.testing import NAT_KINDS, Firewall, Host
from dwcloud.testing.nat import PortAllocation
from tests.nat_table import KINDS

from .cloud_world import MEDIATOR_PORT, CloudWorld
from .test_nat_table import behind

MEDIATOR = Address("203.0.113.1", MEDIATOR_PORT)
ALL = Filtering.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_DEPENDENT
STRICT = Filtering.ADDRESS_AND_PORT_DEPENDENT


class DiscoveryTests(SynchronousTestCase):
    """The mediator has a second address."""

    def find_out(self, cloud: CloudWorld, host: Host, **options: Any) -> NATBehaviour:
        """Ask the mediator from a host."""
        options.setdefault("interface", host.address)
        asking = discover_nat(host.reactor, MEDIATOR, **options)
        behaviour = cloud.world.run_until(asking, 20.0)
        assert behaviour is not None
        return behaviour

    def test_all_kinds(self) -> None:
        """Mapping, filtering and ports come out as the NAT was made."""
        for kind in KINDS:
            with self.subTest(kind=kind):
                cloud = CloudWorld()
                host = behind(cloud, kind, 1, "host")
                found = self.find_out(cloud, host)
                made = NAT_KINDS.get(kind)
                translated = made is not None
                self.assertEqual(found.translated, translated)
                assert found.mapped_address is not None
                self.assertEqual(
                    found.mapped_address.host, "198.51.1.1" if made else host.address
                )
                if made is None:
                    strict = kind == "firewall"
                    self.assertIs(found.mapping, Mapping.ENDPOINT_INDEPENDENT)
                    self.assertIs(found.filtering, STRICT if strict else ALL[0])
                    continue
                self.assertIs(found.mapping, made.mapping)
                self.assertIs(found.filtering, made.filtering)
                preserved = made.port_allocation is PortAllocation.PRESERVE
                self.assertEqual(found.port_preservation, preserved)
                step = 1 if made.port_allocation is PortAllocation.SEQUENTIAL else 0
                self.assertEqual(found.port_step, step)
                self.assertEqual(found.hairpinning, False)

    def test_hairpinning(self) -> None:
        """A NAT that turns packets round is found to."""
        cloud = CloudWorld()
        lan = cloud.internet.nat("198.51.1.1", hairpinning=True)
        found = self.find_out(cloud, lan.host("192.168.1.10"))
        self.assertTrue(found.hairpinning)

    def test_no_udp(self) -> None:
        """Where UDP is blocked that is what is found."""
        cloud = CloudWorld()
        wall = Firewall(block_udp=True)
        lan = cloud.internet.nat("198.51.1.1", firewall=wall)
        found = self.find_out(cloud, lan.host("192.168.1.10"))
        self.assertEqual(found, NATBehaviour(udp=False))

    def test_one_address(self) -> None:
        """A mediator with one address shows only as what it sees the host."""
        cloud = CloudWorld(discovery=False)
        found = self.find_out(cloud, behind(cloud, "symmetric", 1, "host"))
        self.assertIsNone(found.mapping)
        self.assertIsNone(found.filtering)
        self.assertTrue(found.translated)

    def test_any_interface(self) -> None:
        """Without an interface the host's own addresses tell whether there is a NAT."""
        cloud = CloudWorld()
        host = cloud.internet.host("198.51.1.1")
        found = self.find_out(
            cloud, host, interface="", own_hosts=["10.0.0.1", host.address]
        )
        self.assertFalse(found.translated)

    def test_wrong_interface(self) -> None:
        """An address that is not the host's is refused."""
        cloud = CloudWorld()
        host = cloud.internet.host("198.51.1.1")
        asking = discover_nat(host.reactor, MEDIATOR, interface="198.51.1.77")
        self.failureResultOf(asking, CannotListenError)

    def test_cancelled(self) -> None:
        """Cancelling ends it without a trace."""
        cloud = CloudWorld()
        host = cloud.internet.host("198.51.1.1")
        asking: Deferred[NATBehaviour] = discover_nat(host.reactor, MEDIATOR)
        cloud.world.advance(0.005)
        asking.cancel()
        self.failureResultOf(asking)
        cloud.world.advance(0.1)
        cloud.world.trace.clear()
        cloud.world.advance(10.0)
        mediator = cloud.mediator_host.name
        self.assertEqual(cloud.world.trace.packets_carried(host.name, mediator), 0)
