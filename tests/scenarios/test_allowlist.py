"""Allow lists, found out and tried behind firewalls of the simulated world."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.peer.allowlist import Admission, Need, admissions
from dwcloud.peer.allowlist_examination import (
    Verdict,
    find_other_address,
    try_all,
)
from dwcloud.peer.mediator_address import resolve_relay_url
from dwcloud.peer.service_examination import ask_for_relays
from dwcloud.peer.surroundings import Surroundings
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.tunnelling.urls import ServiceURL
from dwcloud.testing import Firewall
from tests.scenarios.cloud_world import CloudWorld


class AllowlistTests(SynchronousTestCase):
    """What is listed, and what is said of it."""

    def setUp(self) -> None:
        self.cloud = CloudWorld(web_ports=["tcp:80"])
        self.host = self.cloud.internet.host("198.51.100.7", name="client")

    def here(self) -> Surroundings:
        reactor: Any = self.host.reactor
        return Surroundings(
            reactor=reactor,
            mediator=self.cloud.address,
            interface=self.host.address,
            proxies=Proxies(reactor),
            ends=reactor.seconds() + 15.0,
            limit=15.0,
        )

    def run_until(self, doing: Any) -> Any:
        return self.cloud.world.run_until(Deferred.fromCoroutine(doing), 60.0)

    def listed(self) -> tuple[list[Admission], Address]:
        """The list, found out where nothing is blocked."""
        here = self.here()
        relays = self.run_until(ask_for_relays(here))
        other = self.run_until(find_other_address(here, [self.cloud.address.host]))
        urls = [
            ServiceURL.parse(resolve_relay_url(url, self.cloud.address))
            for url in relays
        ]
        return admissions(self.cloud.address, urls, other=other), other

    def verdicts(
        self, firewall: Firewall | None
    ) -> dict[tuple[str, str, str], Verdict]:
        """What is said behind a firewall, by protocol, host and ports."""
        lines, other = self.listed()
        if firewall is not None:
            self.host.firewall = firewall
        lines = [line for line in lines if line.need is not Need.ROUTER]
        found = self.run_until(try_all(self.here(), lines, other))
        return {
            (line.protocol, line.host, line.ports): verdict
            for line, verdict in zip(lines, found, strict=True)
        }

    def test_cloud_is_found_out(self) -> None:
        """The mediator tells its relay and its second address."""
        lines, other = self.listed()
        self.assertEqual(other, Address("203.0.113.3", 3346))
        found = [(line.protocol, line.host, line.ports) for line in lines]
        self.assertIn(("tcp", "203.0.113.2", "3349"), found)
        self.assertIn(("udp", "203.0.113.3", "3346"), found)

    def test_nothing_blocked(self) -> None:
        """Everything that answers is reachable; what does not is told apart."""
        found = self.verdicts(None)
        for line in (
            ("tcp", "203.0.113.1", "3345"),
            ("tcp", "203.0.113.2", "3349"),
            ("udp", "203.0.113.1", "3345"),
            ("udp", "203.0.113.3", "3346"),
            ("tcp", "203.0.113.1", "80"),
            ("udp", "any", "1024-65535"),
        ):
            self.assertEqual(found[line].reachable, True, (line, found[line]))
            self.assertIn("answers", found[line].reason)
        # Nobody listens there.
        refused = found["tcp", "203.0.113.1", "443"]
        self.assertEqual(refused, Verdict(False, "203.0.113.1: refused"))
        self.assertIsNone(found["tcp", "any", "1024-65535"].reachable)

    def test_udp_blocked(self) -> None:
        """UDP gets no answer, TCP does."""
        found = self.verdicts(Firewall(block_udp=True))
        for line, verdict in found.items():
            if line[0] == "udp" and line[1].startswith(("203", "any")):
                self.assertEqual(verdict.reachable, False, line)
        self.assertEqual(found["tcp", "203.0.113.1", "3345"].reachable, True)

    def test_web_only(self) -> None:
        """Behind a firewall for web pages only the alternatives work."""
        found = self.verdicts(Firewall(block_udp=True, tcp_ports=[80, 443]))
        self.assertEqual(found["tcp", "203.0.113.1", "3345"].reachable, False)
        self.assertIn("no answer", found["tcp", "203.0.113.1", "3345"].reason)
        self.assertEqual(found["tcp", "203.0.113.1", "80"].reachable, True)

    def test_something_else(self) -> None:
        """A name without address, and a port where something else answers, say so."""
        lines, other = self.listed()
        nameless = attrs.evolve(lines[0], host="nowhere.example", addresses=())
        # The relay's page is not at the mediator.
        wrong = next(line for line in lines if line.ports == "80")
        wrong = attrs.evolve(wrong, page="/elsewhere/")
        one, two = self.run_until(try_all(self.here(), [nameless, wrong], other))
        self.assertEqual(one, Verdict(False, "the name nowhere.example has no address"))
        self.assertEqual(two.reachable, False)
        self.assertIn("something else answers there, with status 404", two.reason)
