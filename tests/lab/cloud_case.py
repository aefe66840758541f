"""A cloud in the lab, and proof of the path that a file took."""

from __future__ import annotations

import shutil

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests.lab.namespaces import require_namespaces
from tests.lab.processes import wait_for
from tests.lab.programs import RELAY_PORT, Cloud, Forward, Server
from tests.lab.topology import Host, Lab
from tests.lab.traffic import Meter, Traffic
from tests.requirements import require

__all__ = ["OPEN", "SIZE", "STRAY", "CloudTestCase", "Place"]

SIZE = 5_000_000
"""Octets of the file."""

STRAY = 500_000
"""Octets that paths may use that were tried, but did not carry the file."""

OPEN = "open"


@attrs.frozen
class Place:
    """A host and the edge of its network.

    :ivar address: by which the Internet knows it.
    :ivar meter: counts what crosses the edge.
    :ivar other_address: another by which a neighbour may know it.
    """

    host: Host
    address: str
    meter: Meter
    other_address: str = ""


class CloudTestCase(SynchronousTestCase):
    """A lab with a mediator and a relay on a public host."""

    def setUp(self) -> None:
        """Start the cloud."""
        require_namespaces()
        require(shutil.which("curl"), "curl is missing")
        self.lab = Lab()
        self.addCleanup(self.lab.close)
        self.cloud = self.start_cloud()

    def start_cloud(self) -> Cloud:
        """Start mediator and relay."""
        # On a busy machine a direct path may take longer than a relay waits for it.
        return Cloud.start(self.lab.host("A"), "--parameter", "relay_grace=4")

    def place(self, label: str, kind: str, *, block_udp: bool = False) -> Place:
        """Return a host behind a router of this kind."""
        if kind == OPEN:
            host = self.lab.host(label)
            return Place(host, host.address, host.meter())
        router = self.lab.router(f"{label}-router", kind, block_udp=block_udp)
        host = router.host(label)
        routed = kind == "firewall"
        return Place(host, host.address if routed else router.address, router.meter())

    def serve(self, place: Place) -> Server:
        """Publish a file at a place."""
        return Server.start(place.host, self.cloud, SIZE)

    def forward_in_lan(self, home: Place, away: Place, server: Server) -> Forward:
        """Start a client in the server's network, and wait until it heard of it.

        A client that was just started waits for that only a quarter of a second.
        """
        before = away.meter.read()
        forward = Forward(away.host, server, self.cloud)

        def answered() -> int:
            return away.meter.read().since(before).of(home.address, "udp")

        wait_for(f"an answer of {home.host.label}", answered)
        return forward

    def assertCarried(self, path: str, traffic: Traffic, peer: Place) -> None:
        """The file, and nothing else of its size, went by ``path``.

        :param traffic: at the edge of one end.
        :param peer: the other end.
        """
        address = self.cloud.address
        addresses = [a for a in (peer.address, peer.other_address) if a]
        octets = {
            "udp": sum(traffic.of(known, "udp") for known in addresses),
            "tcp": sum(traffic.of(known, "tcp") for known in addresses),
            "relay": traffic.of(address, "tcp", RELAY_PORT),
        }
        carriers = {"udp": "udp", "relay": "relay", "tcp": "tcp", "lan": "tcp"}
        carried = octets.pop(carriers[path])
        self.assertGreater(carried, SIZE, f"by {path}, and else {octets}")
        self.assertLess(carried, 2 * SIZE, f"by {path}")
        octets["elsewhere"] = traffic.total() - carried
        for other, stray in octets.items():
            self.assertLess(stray, STRAY, f"{other} beside {path}:\n{traffic}")

    def check(
        self, forward: Forward, server: Server, places: tuple[Place, Place]
    ) -> str:
        """Fetch the file; return the path, which both edges have to confirm."""
        one, other = places
        before = [place.meter.read() for place in places]
        transfer = forward.fetch()
        self.assertEqual(transfer.sha256, server.sha256)
        self.assertEqual(transfer.report["event"], "connected")
        for place, peer, earlier in zip(places, (other, one), before, strict=True):
            traffic = place.meter.read().since(earlier)
            self.assertCarried(transfer.path, traffic, peer)
        return transfer.path
