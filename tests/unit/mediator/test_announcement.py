"""What a mediator says of where it is."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.interfaces import LocalAddress
from dwcloud.mediator.announcement import announced_endpoints
from dwcloud.protocol.addresses import Address

GLOBAL, LOCAL = "2001:db8::1", "fd00::1"


def found(*hosts: str) -> list[LocalAddress]:
    """Return addresses as a machine has them."""
    return [LocalAddress(host, 24, "eth0") for host in hosts]


class AnnouncementTests(SynchronousTestCase):
    """What a mediator tells."""

    def test_wildcards(self) -> None:
        """Sockets for all addresses are told with the best one of the machine."""
        sockets = [Address("0.0.0.0", 3345), Address("::", 3346)]
        hosts = found("10.0.0.1", "192.0.2.1", LOCAL, GLOBAL, "fe80::1")
        self.assertEqual(
            announced_endpoints(sockets, hosts),
            (Address("192.0.2.1", 3345), Address(GLOBAL, 3346)),
        )

    def test_private(self) -> None:
        """Private addresses of IPv4 are not told, local ones of IPv6 are."""
        sockets = [Address("0.0.0.0", 3345), Address("::", 3345)]
        hosts = found("10.0.0.1", "127.0.0.1", "::1", LOCAL)
        self.assertEqual(announced_endpoints(sockets, hosts), (Address(LOCAL, 3345),))
        self.assertEqual(announced_endpoints(sockets[:1], hosts), ())

    def test_one_each(self) -> None:
        """Of several sockets the first of each version counts."""
        sockets = [
            Address(host, port)
            for port in (3345, 3346)
            for host in ("192.0.2.1", "192.0.2.2", GLOBAL)
        ]
        self.assertEqual(
            announced_endpoints(sockets, []),
            (Address("192.0.2.1", 3345), Address(GLOBAL, 3345)),
        )
