"""NATs that cannot be punched over IPv4, and firewalls that can over IPv6.

The mediator is named by its IPv4 address.
"""

from __future__ import annotations

import attrs

from tests.lab.cloud_case import SIZE, STRAY, CloudTestCase, Place
from tests.lab.ipv6 import join_ipv6, protect_ipv6
from tests.lab.processes import wait_for
from tests.lab.programs import MEDIATOR_PORT, Cloud, Forward
from tests.lab.traffic import Meter
from tests.nat_table import entry


@attrs.frozen
class DualPlace:
    """A host of both versions of IP and the edge of its network.

    :ivar place: what there is of IPv4.
    :ivar address: of IPv6.
    :ivar meter: of IPv6, at the same edge.
    """

    place: Place
    address: str
    meter: Meter


class IPv6TestCase(CloudTestCase):
    """Both ends behind symmetric NATs, with a stateful firewall each."""

    def dual_place(self, label: str) -> DualPlace:
        """Return a host of both versions of IP."""
        router = self.lab.router(f"{label}-router", "symmetric")
        host = router.host(label)
        address = protect_ipv6(self.lab, router, host)
        place = Place(host, router.address, router.meter())
        return DualPlace(place, address, Meter(router.namespace, "wan", "ip6"))

    def check_direct(self) -> DualPlace:
        """Fetch the file, which has to come over IPv6; return the client's place."""
        self.assertEqual(entry("symmetric", "symmetric"), "no")
        home, away = self.dual_place("server"), self.dual_place("client")
        server = self.serve(home.place)
        forward = Forward(away.place.host, server, self.cloud)
        if forward.fetch().path == "relay":
            # The machine is so busy that the relay was first: it is not any more.
            wait_for("a direct path", lambda: forward.fetch().path == "udp")
        edges = [(each.meter, each.place.meter) for each in (home, away)]
        before = [[meter.read() for meter in meters] for meters in edges]
        transfer = forward.fetch()
        self.assertEqual(transfer.sha256, server.sha256)
        self.assertEqual(transfer.path, "udp")
        host, _, port = transfer.report["remote_address"].rpartition(":")
        self.assertEqual(host, f"[{home.address}]")
        sockets = home.place.host.namespace.inspect("ss", "-Hlun6", f"sport = :{port}")
        self.assertIn(f":{port}", sockets)
        for meters, earlier, peer in zip(edges, before, (away, home), strict=True):
            ipv6, ipv4 = (
                meter.read().since(then)
                for meter, then in zip(meters, earlier, strict=True)
            )
            self.assertGreater(ipv6.of(peer.address, "udp"), SIZE)
            self.assertLess(ipv4.total(), STRAY, f"IPv4:\n{ipv4}")
        return away


class MediatorOfIPv4Tests(IPv6TestCase):
    """The mediator has IPv4 alone."""

    def test_direct(self) -> None:
        """It has not seen the client over IPv6, and tells the server where to look."""
        with self.lab.explaining():
            self.check_direct()


class MediatorOfBothTests(IPv6TestCase):
    """The mediator takes UDP over IPv6 as well."""

    def start_cloud(self) -> Cloud:
        """Start mediator and relay on a host of both versions of IP."""
        host = self.lab.host("A")
        self.ipv6 = join_ipv6(self.lab, host.namespace, "eth0")
        # Its sockets are of both, as nothing else is said.
        return Cloud.start(host, "--parameter", "relay_grace=2")

    def test_direct(self) -> None:
        """It tells its IPv6 address, and both ends ask it there."""
        with self.lab.explaining():
            away = self.check_direct()
            asked = away.meter.read().of(self.ipv6, "udp", MEDIATOR_PORT)
            self.assertGreater(asked, 0)
