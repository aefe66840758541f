"""What is on an allow list."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.peer.allowlist import (
    ANYWHERE,
    Admission,
    Direction,
    Need,
    admissions,
    hosts_of,
)
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.tunnelling.urls import ServiceURL

MEDIATOR = MediatorAddress("cloud.example.org")
RELAY = ServiceURL("http", "relay.example.org", 3349)


def brief(admission: Admission) -> tuple[str, str, str, str]:
    """The line as a firewall sees it."""
    return (
        admission.direction.value,
        admission.protocol,
        admission.host,
        admission.ports,
    )


def of_need(need: Need, lines: list[Admission]) -> list[tuple[str, str, str, str]]:
    """The lines of a kind."""
    return [brief(line) for line in lines if line.need is need]


class ContentTests(SynchronousTestCase):
    """Lines for different clouds."""

    def test_usual_cloud(self) -> None:
        """A mediator and a relay at their usual ports."""
        lines = admissions(MEDIATOR, [RELAY])
        self.assertEqual(
            of_need(Need.REQUIRED, lines),
            [
                ("out", "tcp", "cloud.example.org", "3345"),
                ("out", "tcp", "relay.example.org", "3349"),
            ],
        )
        self.assertEqual(
            of_need(Need.DIRECT, lines),
            [
                ("out", "udp", "cloud.example.org", "3345"),
                ("out", "udp", ANYWHERE, "1024-65535"),
                ("out", "tcp", ANYWHERE, "1024-65535"),
            ],
        )
        self.assertEqual(
            of_need(Need.ALTERNATIVE, lines),
            [
                ("out", "tcp", host, port)
                for host in ("cloud.example.org", "relay.example.org")
                for port in ("443", "80")
            ],
        )
        self.assertIn(("out", "udp", "239.255.11.11", "5018"), of_need(Need.LAN, lines))
        self.assertIn(("out", "udp", "router", "5351"), of_need(Need.ROUTER, lines))

    def test_second_address(self) -> None:
        """All four sockets by which NATs are explored."""
        other = Address("192.0.2.2", 3346)
        lines = of_need(Need.DIRECT, admissions(MEDIATOR, [], other=other))
        for line in (
            ("out", "udp", "cloud.example.org", "3345"),
            ("out", "udp", "cloud.example.org", "3346"),
            ("out", "udp", "192.0.2.2", "3345"),
            ("out", "udp", "192.0.2.2", "3346"),
        ):
            self.assertIn(line, lines)

    def test_cloud_of_web_ports(self) -> None:
        """A mediator that is a URL, and a relay with TLS, have no alternatives."""
        mediator = MediatorAddress.parse("https://cloud.example.org")
        relay = ServiceURL("https", "relay.example.org", 443)
        lines = admissions(mediator, [relay])
        self.assertEqual(
            of_need(Need.REQUIRED, lines),
            [
                ("out", "tcp", "cloud.example.org", "443"),
                ("out", "tcp", "relay.example.org", "443"),
            ],
        )
        self.assertEqual(of_need(Need.ALTERNATIVE, lines), [])

    def test_one_line_for_two_purposes(self) -> None:
        """What is required already is not listed again as an alternative."""
        mediator = MediatorAddress("cloud.example.org", 443)
        lines = [brief(line) for line in admissions(mediator, [RELAY])]
        self.assertEqual(len(lines), len(set(lines)))

    def test_server_ports(self) -> None:
        """Fixed ports of a server are to be let in; without any, nothing is."""
        lines = admissions(MEDIATOR, [], lan=False, tcp_port=7000, udp_port=7001)
        incoming = [brief(line) for line in lines if line.need is Need.DIRECT]
        self.assertIn(("in", "tcp", ANYWHERE, "7000"), incoming)
        self.assertIn(("in", "udp", ANYWHERE, "7001"), incoming)
        lines = admissions(MEDIATOR, [], lan=False)
        incoming = [
            brief(line)
            for line in lines
            if line.direction is Direction.IN and line.need is not Need.ROUTER
        ]
        self.assertEqual(incoming, [])

    def test_addresses(self) -> None:
        """Names get their addresses, addresses are their own."""
        relay = ServiceURL("http", "2001:db8::7", 3349)
        known = {"cloud.example.org": ("192.0.2.1", "2001:db8::1")}
        mediator, second = admissions(MEDIATOR, [relay], addresses=known)[:2]
        self.assertEqual(mediator.addresses, ("192.0.2.1", "2001:db8::1"))
        self.assertEqual(second.addresses, ("2001:db8::7",))
        self.assertEqual(
            hosts_of(MEDIATOR, [RELAY, RELAY]),
            ["cloud.example.org", "relay.example.org"],
        )

    @given(
        st.lists(
            st.builds(
                ServiceURL,
                st.sampled_from(["http", "https"]),
                st.sampled_from(["a", "b.example", "192.0.2.1", "2001:db8::1"]),
                st.integers(1, 65535),
            ),
            max_size=4,
        ),
        st.integers(0, 65535),
        st.integers(0, 65535),
    )
    def test_any_cloud(
        self, relays: list[ServiceURL], tcp_port: int, udp_port: int
    ) -> None:
        """No line comes twice, each has ports, and each relay is on the list."""
        lines = admissions(MEDIATOR, relays, tcp_port=tcp_port, udp_port=udp_port)
        seen = [brief(line) for line in lines]
        self.assertEqual(len(seen), len(set(seen)))
        for line in lines:
            first, _, last = line.ports.partition("-")
            self.assertTrue(0 < int(first) <= int(last or first) < 65536)
            for text in line.addresses:
                ipaddress.ip_network(text)
        for relay in relays:
            self.assertIn(("out", "tcp", relay.host, str(relay.port)), seen)
