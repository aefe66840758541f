"""A mapping that is kept."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.port_mapping.lease import RETRY, Lease, LeaseCore, lease_machine
from dwcloud.protocol.port_mapping.mappings import Grant
from tests.unit.protocol.mediation.machine_walk import state_of, walk

GRANT = Grant(Address("192.0.2.1", 4000), 3600.0)
MOVED = Grant(Address("192.0.2.9", 4000), 3600.0)


class LeaseTests(SynchronousTestCase):
    """One lease from wish to end."""

    def setUp(self) -> None:
        self.make()

    def make(self) -> Lease:
        """Return a new lease, which is that of the test from now on."""
        self.asked: list[Grant | None] = []
        self.returned: list[Grant] = []
        self.told: list[Grant | None] = []
        self.core = LeaseCore(
            ask=self.asked.append,
            give_back=self.returned.append,
            changed=self.told.append,
        )
        self.lease = lease_machine(self.core)
        return self.lease

    def held(self) -> Lease:
        """Return a lease with a grant since second 0."""
        lease = self.make()
        lease.wanted(0.0)
        lease.granted(GRANT, 0.0)
        return lease

    def test_granted(self) -> None:
        """It is asked for once, told once, and renewed at half of its time."""
        self.lease.wanted(0.0)
        self.assertEqual((self.asked, self.core.due), ([None], None))
        self.lease.granted(GRANT, 1.0)
        self.assertEqual((self.told, self.core.due), ([GRANT], 1801.0))
        self.lease.timer_expired(1801.0)
        self.assertEqual(self.asked, [None, GRANT])
        self.lease.granted(GRANT, 1802.0)
        self.assertEqual((self.told, self.core.due), ([GRANT], 3602.0))

    def test_moved(self) -> None:
        """Another external address is told."""
        self.held().doubted(60.0)
        self.lease.granted(MOVED, 61.0)
        self.assertEqual(self.told, [GRANT, MOVED])

    def test_refused(self) -> None:
        """What is refused is asked for again later."""
        self.lease.wanted(0.0)
        self.lease.refused("no", 1.0)
        self.assertEqual((self.core.reason, self.core.due), ("no", 1.0 + RETRY))
        self.assertEqual(self.told, [])
        self.lease.timer_expired(61.0)
        self.assertEqual(self.asked, [None, None])

    def test_lost(self) -> None:
        """A renewal that fails is the end of the mapping, until it is made again."""
        self.held().timer_expired(1800.0)
        self.lease.refused("silence", 1808.0)
        self.assertEqual(self.told, [GRANT, None])
        self.lease.timer_expired(1812.0)
        self.lease.granted(GRANT, 1812.0)
        self.assertEqual(self.told, [GRANT, None, GRANT])

    def test_given_back(self) -> None:
        """What is held is given back when it is not needed any more."""
        self.held().unwanted(5.0)
        self.assertEqual((self.returned, self.core.due), ([GRANT], None))
        self.held().forgotten(5.0)
        self.assertEqual((self.returned, self.core.due), ([], None))

    def test_short_lease(self) -> None:
        """A router with very short leases is not asked all the time."""
        self.lease.wanted(0.0)
        self.lease.granted(Grant(GRANT.external, 1.0), 0.0)
        assert self.core.due is not None
        self.assertGreaterEqual(self.core.due, 4.0)

    def test_all_inputs(self) -> None:
        """Every input is answered in every state."""

        def asking() -> Lease:
            self.make().wanted(0.0)
            return self.lease

        def renewing() -> Lease:
            self.held().timer_expired(1.0)
            return self.lease

        def waiting() -> Lease:
            asking().refused("no", 0.0)
            return self.lease

        found = walk(
            {
                "idle": self.make,
                "asking": asking,
                "held": self.held,
                "renewing": renewing,
                "waiting to ask again": waiting,
            },
            {
                "wanted": lambda lease: lease.wanted(9.0),
                "granted": lambda lease: lease.granted(MOVED, 9.0),
                "refused": lambda lease: lease.refused("no", 9.0),
                "timer_expired": lambda lease: lease.timer_expired(9.0),
                "doubted": lambda lease: lease.doubted(9.0),
                "unwanted": lambda lease: lease.unwanted(9.0),
                "forgotten": lambda lease: lease.forgotten(9.0),
            },
        )
        moves = {key: state for key, state in found.items() if state != key[0]}
        wait = "waiting to ask again"
        self.assertEqual(
            moves,
            {
                ("idle", "wanted"): "asking",
                ("asking", "granted"): "held",
                ("asking", "refused"): wait,
                ("asking", "unwanted"): "idle",
                ("asking", "forgotten"): "idle",
                ("held", "timer_expired"): "renewing",
                ("held", "doubted"): "renewing",
                ("held", "unwanted"): "idle",
                ("held", "forgotten"): "idle",
                ("renewing", "granted"): "held",
                ("renewing", "refused"): wait,
                ("renewing", "unwanted"): "idle",
                ("renewing", "forgotten"): "idle",
                (wait, "wanted"): "asking",
                (wait, "timer_expired"): "asking",
                (wait, "doubted"): "asking",
                (wait, "unwanted"): "idle",
                (wait, "forgotten"): "idle",
            },
        )

    @given(st.lists(st.integers(0, 6), max_size=40))
    def test_any_history(self, steps: list[int]) -> None:
        """Whatever happens, what was told is what is held, and a timer is set."""
        lease = self.make()
        inputs: list[Any] = [
            lease.wanted,
            lambda now: lease.granted(GRANT if now % 2 else MOVED, now),
            lambda now: lease.refused("no", now),
            lease.timer_expired,
            lease.doubted,
            lease.unwanted,
            lease.forgotten,
        ]
        for now, step in enumerate(steps):
            inputs[step](float(now))
            state = state_of(lease)
            holds = state in ("held", "renewing")
            self.assertEqual(self.core.grant is not None, holds)
            if holds:
                self.assertEqual(self.told[-1], self.core.grant)
            timed = state in ("held", "waiting to ask again")
            self.assertEqual(self.core.due is not None, timed)
