"""The connect sessions that a server knows, and who is its neighbour."""

from __future__ import annotations

import ipaddress
import uuid

import ifaddr
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.peer.sessions import ConnectSessions, on_link

A, B, C = (uuid.UUID(int=number) for number in range(1, 4))


class ConnectSessionsTests(SynchronousTestCase):
    """A bounded table with an end for each entry."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.sessions = ConnectSessions(self.clock.seconds, lifetime=10.0, capacity=3)

    def test_known(self) -> None:
        """What the mediator announced is known, nothing else."""
        self.sessions.add(A, "me")
        known = self.sessions.use(A)
        assert known is not None
        self.assertEqual(known.client, "me")
        self.assertIsNone(self.sessions.use(B))

    def test_forgotten(self) -> None:
        """A session that nobody uses is forgotten when its time is over."""
        self.sessions.add(A)
        self.clock.advance(9.9)
        self.assertIsNotNone(self.sessions.use(A))
        self.clock.advance(9.9)
        self.assertIsNotNone(self.sessions.use(A))
        self.clock.advance(10)
        self.assertIsNone(self.sessions.use(A))
        self.assertEqual(len(self.sessions), 0)

    def test_announced_again(self) -> None:
        """A repeated announcement prolongs that session and no other."""
        self.sessions.add(A)
        self.clock.advance(1)
        self.sessions.add(B)
        self.clock.advance(8)
        self.sessions.add(A)
        self.clock.advance(3)
        self.assertIsNone(self.sessions.use(B))
        self.assertIsNotNone(self.sessions.use(A))

    def test_full(self) -> None:
        """The one that was not used for longest makes room."""
        for session in (A, B, C):
            self.sessions.add(session)
        self.sessions.use(A)
        self.sessions.add(uuid.UUID(int=4))
        self.assertEqual(len(self.sessions), 3)
        self.assertIsNone(self.sessions.use(B))
        self.assertIsNotNone(self.sessions.use(A))

    def test_announced_again_when_full(self) -> None:
        """What is known already needs no room."""
        for session in (A, B, C):
            self.sessions.add(session)
        self.sessions.add(C)
        self.assertIsNotNone(self.sessions.use(A))

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["add", "use", "wait"]),
                st.integers(min_value=0, max_value=9),
            ),
            max_size=60,
        )
    )
    def test_any_history(self, steps: list[tuple[str, int]]) -> None:
        """Never too many, never one past its time, never one forgotten too early."""
        clock = Clock()
        sessions = ConnectSessions(clock.seconds, lifetime=10.0, capacity=4)
        touched: dict[uuid.UUID, tuple[float, int]] = {}
        for turn, (step, number) in enumerate(steps):
            session = uuid.UUID(int=number)
            now = (clock.seconds(), turn)
            alive = [s for s, at in touched.items() if at[0] + 10 > clock.seconds()]
            alive = sorted(alive, key=lambda s: touched[s])[-4:]
            if step == "wait":
                clock.advance(number)
            elif step == "add":
                sessions.add(session)
                touched = {s: touched[s] for s in alive} | {session: now}
            else:
                self.assertEqual(sessions.use(session) is not None, session in alive)
                if session in alive:
                    touched[session] = now
            self.assertLessEqual(len(sessions), 4)


def adapter(*ips: tuple[str, int]) -> ifaddr.Adapter:
    """A network adapter with these addresses and prefix lengths."""
    return ifaddr.Adapter(
        "eth0",
        "eth0",
        [
            ifaddr.IP((ip, 0, 0) if ":" in ip else ip, prefix, "eth0")
            for ip, prefix in ips
        ],
    )


class OnLinkTests(SynchronousTestCase):
    """Whether an address is in a network of this machine."""

    ADAPTERS = [
        adapter(("192.168.1.7", 24), ("2001:db8:1::7", 64)),
        adapter(("10.0.0.1", 30)),
    ]

    def test_neighbours(self) -> None:
        """Addresses of attached networks are, others are not."""
        for host, expected in (
            ("192.168.1.7", True),
            ("192.168.1.200", True),
            ("192.168.2.1", False),
            ("10.0.0.2", True),
            ("10.0.0.4", False),
            ("8.8.8.8", False),
            ("2001:db8:1::9", True),
            ("2001:db8:2::9", False),
            ("127.0.0.1", True),
            ("127.8.8.8", True),
            ("::1", True),
            ("fe80::1%eth0", False),
        ):
            self.assertEqual(on_link(host, self.ADAPTERS), expected, host)

    def test_nothing_attached(self) -> None:
        """A machine without a network has no neighbours but itself."""
        self.assertFalse(on_link("192.168.1.7", []))
        self.assertTrue(on_link("127.0.0.1", []))

    @given(st.ip_addresses().map(str))
    def test_any_address_survives(self, host: str) -> None:
        """Any address has an answer, and of this machine's own networks."""
        loopback = ipaddress.ip_address(host).is_loopback
        self.assertEqual(on_link(host, []), loopback)

    def test_of_this_machine(self) -> None:
        """The machine's own adapters are found without being told."""
        self.assertTrue(on_link("127.0.0.1"))
        self.assertFalse(on_link("240.0.0.1"))
