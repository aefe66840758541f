"""Which addresses of its own a peer tells, and where it asks the mediator."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import MediatorUnreachable, RequestRefused
from dwcloud.interfaces import LocalAddress
from dwcloud.peer.local_addresses import local_addresses, own_addresses, wants_ipv6
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.mediator_udp import MediatorUDP, first_answer
from dwcloud.protocol.addresses import Address
from dwcloud.testing import World

GLOBAL, OTHER, LOCAL = "2001:db8::1", "2001:db8::2", "fd00::1"


def found(*hosts: str) -> list[LocalAddress]:
    """Return addresses as a machine has them."""
    return [LocalAddress(host, 24, "eth0") for host in hosts]


class LocalAddressTests(SynchronousTestCase):
    """A machine's own addresses."""

    def test_order(self) -> None:
        """IPv4 first; of IPv6 the one in use, then global ones, then local ones."""
        hosts = found("::1", "fe80::1", LOCAL, GLOBAL, "127.0.0.1", "192.0.2.1", OTHER)
        expected = ["192.0.2.1", OTHER, GLOBAL, LOCAL]
        self.assertEqual(local_addresses(hosts, first=OTHER), expected)

    def test_room(self) -> None:
        """Many networks of containers leave room for IPv6, and the other way round."""
        ipv4 = [f"172.17.{n}.1" for n in range(20)]
        ipv6 = [f"2001:db8::{n}" for n in range(1, 20)]
        named = local_addresses(found(*ipv4, *ipv6))
        self.assertEqual(named, ipv4[:8] + ipv6[:4])
        self.assertEqual(local_addresses(found(*ipv4)), ipv4[:12])

    def test_loopback(self) -> None:
        """Loopback is named by who has nothing else."""
        self.assertEqual(local_addresses(found("127.0.0.1", "::1")), ["127.0.0.1"])
        self.assertEqual(local_addresses(found("127.0.0.1", GLOBAL)), [GLOBAL])

    def test_own(self) -> None:
        """The system knows which one it uses."""
        host = World().internet().host("192.0.2.1", OTHER, GLOBAL)
        self.assertEqual(own_addresses(host.reactor), ["192.0.2.1", OTHER, GLOBAL])

    def test_wanted(self) -> None:
        """IPv6 is of use with an address, and where the mediator is there."""
        named, literal = MediatorAddress("192.0.2.9"), MediatorAddress(GLOBAL)
        self.assertTrue(wants_ipv6(named, lambda: found("192.0.2.1", LOCAL)))
        self.assertFalse(
            wants_ipv6(named, lambda: found("192.0.2.1", "::1", "fe80::1"))
        )
        self.assertTrue(wants_ipv6(literal, lambda: found("192.0.2.1")))
        # Whoever asks a mediator on his own machine meets nobody elsewhere.
        self.assertFalse(
            wants_ipv6(MediatorAddress("localhost"), lambda: found(GLOBAL))
        )
        self.assertFalse(wants_ipv6(None, lambda: found(GLOBAL)))


class MediatorUDPTests(SynchronousTestCase):
    """Where the mediator takes UDP."""

    def setUp(self) -> None:
        self.world = World()
        self.reactor = self.world.internet().host("192.0.2.1").reactor

    def resolve(self, known: MediatorUDP, family: int) -> Address | None:
        """Return an address."""
        return self.world.run_until(known.resolve(family), 5.0)

    def test_literal(self) -> None:
        """What the mediator said counts for the version that it was not named by."""
        known = MediatorUDP(self.reactor, MediatorAddress("192.0.2.9"))
        self.failureResultOf(known.resolve(6), DNSLookupError)
        known.learn([Address("192.0.2.66", 1), Address(GLOBAL, 3345)])
        self.assertEqual(self.resolve(known, 4), Address("192.0.2.9", 3345))
        self.assertEqual(self.resolve(known, 6), Address(GLOBAL, 3345))

    def test_any(self) -> None:
        """IPv4 if there is a choice."""
        self.world.add_name("both.example", GLOBAL, "192.0.2.9")
        self.world.add_name("six.example", GLOBAL)
        for name, families, host in (
            ("both.example", [6, 4], "192.0.2.9"),
            ("both.example", [6], GLOBAL),
            ("six.example", [4, 6], GLOBAL),
        ):
            known = MediatorUDP(self.reactor, MediatorAddress(name))
            address = self.world.run_until(known.resolve_any(families), 5.0)
            self.assertEqual(address, Address(host, 3345))
        self.failureResultOf(known.resolve_any([]), DNSLookupError)


class FirstAnswerTests(SynchronousTestCase):
    """One question asked twice."""

    def setUp(self) -> None:
        self.cancelled: list[int] = []
        self.asked: list[Deferred[str]] = [
            Deferred(lambda _, n=n: self.cancelled.append(n))  # type: ignore[misc]
            for n in range(2)
        ]
        self.answer = first_answer(self.asked)

    def test_answer(self) -> None:
        """The first answer counts, whatever failed before; the rest is cancelled."""
        self.asked[1].callback("yes")
        self.assertEqual(self.successResultOf(self.answer), "yes")
        self.assertEqual(self.cancelled, [0])

    def test_failures(self) -> None:
        """One failure is none; of two the later counts."""
        self.asked[0].errback(ValueError())
        self.assertNoResult(self.answer)
        self.asked[1].errback(KeyError())
        self.failureResultOf(self.answer, KeyError)

    def test_refusal(self) -> None:
        """A refusal is an answer."""
        self.asked[0].errback(RequestRefused("no", 401))
        self.failureResultOf(self.answer, RequestRefused)
        self.assertEqual(self.cancelled, [1])

    def test_cancel(self) -> None:
        """Who wants no answer stops all."""
        self.answer.cancel()
        self.assertEqual(self.cancelled, [0, 1])
        self.failureResultOf(self.answer)

    def test_nobody_asked(self) -> None:
        """Where there is nothing to ask with, that is said."""
        self.failureResultOf(first_answer([]), MediatorUnreachable)
