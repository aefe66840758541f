"""When to ask, and when to give up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.mediation.keep_alive import KeepAliveMonitor, KeepAliveStep
from dwcloud.protocol.mediation.parameters import KeepAlive


class KeepAliveTests(SynchronousTestCase):
    """The monitor of a control channel."""

    def test_silence(self) -> None:
        """Asked at 10, 20 and 30 seconds, given up at 40."""
        monitor = KeepAliveMonitor(KeepAlive(), now=0.0)
        steps = []
        for _ in range(4):
            at = monitor.next_timer()
            steps.append((at, monitor.handle_timer(now=at)))
        ask = KeepAliveStep.ASK
        self.assertEqual(
            steps,
            [(10.0, ask), (20.0, ask), (30.0, ask), (40.0, KeepAliveStep.GIVE_UP)],
        )

    def test_heard(self) -> None:
        """Any sign of life begins anew."""
        monitor = KeepAliveMonitor(KeepAlive(), now=0.0)
        monitor.handle_timer(now=10.0)
        monitor.handle_timer(now=20.0)
        monitor.heard(now=21.0)
        self.assertEqual(monitor.next_timer(), 31.0)
        self.assertIs(monitor.handle_timer(now=31.0), KeepAliveStep.ASK)

    def test_busy(self) -> None:
        """It asks every 20 s although it hears enough: it would be silent itself."""
        monitor = KeepAliveMonitor(KeepAlive(), now=0.0)
        asked = []
        for now in range(1, 101):
            monitor.heard(now=now)
            if monitor.next_timer() <= now and monitor.handle_timer(now=now):
                asked.append(now)
        self.assertEqual(asked, [20, 40, 60, 80, 100])

    def test_asked_within(self) -> None:
        """Behind a proxy it asks sooner than the mediator wishes, and waits as long."""
        settings = KeepAlive(idle=100.0, interval=50.0, misses=1)
        monitor = KeepAliveMonitor(settings, now=0.0, ask_within=20.0)
        steps = {}
        while KeepAliveStep.GIVE_UP not in steps.values():
            at = monitor.next_timer()
            steps[at] = monitor.handle_timer(now=at)
        self.assertEqual(
            list(steps), [20.0, 40.0, 60.0, 80.0, 100.0, 120.0, 140.0, 150.0]
        )

    def test_early(self) -> None:
        """A timer that fires early does nothing."""
        monitor = KeepAliveMonitor(KeepAlive(), now=0.0)
        self.assertIsNone(monitor.handle_timer(now=9.9))

    @given(st.lists(st.tuples(st.booleans(), st.floats(0, 60)), max_size=40))
    def test_never_given_up_while_heard(self, steps: list[tuple[bool, float]]) -> None:
        """It is given up only after silence of the full length."""
        settings = KeepAlive()
        monitor = KeepAliveMonitor(settings, now=0.0)
        now = heard = 0.0
        for speaks, passed in steps:
            now += passed
            if speaks:
                monitor.heard(now=now)
                heard = now
            elif monitor.handle_timer(now=now) is KeepAliveStep.GIVE_UP:
                self.assertGreaterEqual(now - heard, settings.limit - 1e-6)
                return
