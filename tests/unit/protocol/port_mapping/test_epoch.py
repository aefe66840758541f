"""Whether a router's clock shows that it lost its mappings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.port_mapping.epoch import EpochMonitor


class EpochTests(SynchronousTestCase):
    """RFC 6887, section 8.5."""

    def check(self, *seen: tuple[float, int]) -> bool:
        """Give a monitor epochs at times; return what it says of the last."""
        monitor = EpochMonitor()
        *before, (now, epoch) = seen
        for at, earlier in before:
            self.assertFalse(monitor.state_was_lost(earlier, now=at))
        return monitor.state_was_lost(epoch, now=now)

    def test_table(self) -> None:
        """The cases of the section."""
        self.assertFalse(self.check((0.0, 77)), "the first is believed")
        self.assertFalse(self.check((0.0, 100), (10.0, 110)))
        self.assertFalse(self.check((0.0, 100), (0.5, 99)), "out of order")
        self.assertTrue(self.check((0.0, 100), (10.0, 0)), "a restart")
        self.assertTrue(self.check((0.0, 5), (1000.0, 500)), "a restart long ago")
        self.assertTrue(self.check((0.0, 5), (10.0, 500)), "another router")
        self.assertFalse(self.check((0.0, 0), (1600.0, 1502)), "a slow clock")

    @given(st.lists(st.floats(0.0, 10_000.0), min_size=1, max_size=20), st.integers(0))
    def test_honest_clock(self, waits: list[float], start: int) -> None:
        """A router that keeps its state and time is never doubted."""
        monitor, now = EpochMonitor(), 0.0
        for wait in waits:
            now += wait
            self.assertFalse(monitor.state_was_lost(start + int(now), now=now))
