"""Tests of simulated time."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dwcloud.testing import Scheduler, SimulationStalled, scheduler


class SchedulerTests(SynchronousTestCase):
    """Calls run at their moments, in order."""

    def setUp(self):
        self.scheduler = Scheduler(start=100.0)
        self.ran = []

    def note(self, name):
        self.ran.append((name, self.scheduler.now))

    def test_interface(self):
        """A scheduled call is what Twisted calls a delayed call."""
        verifyObject(IDelayedCall, self.scheduler.schedule(1.0, self.note, "a"))

    def test_order(self):
        """Calls run by time, those of one moment in the order they were asked for."""
        self.scheduler.schedule(2.0, self.note, "c")
        self.scheduler.schedule(1.0, self.note, "a")
        self.scheduler.schedule(1.0, self.note, "b")
        self.scheduler.run_for(5.0)
        self.assertEqual(self.ran, [("a", 101.0), ("b", 101.0), ("c", 102.0)])
        self.assertEqual(self.scheduler.now, 105.0)

    def test_calls_made_by_calls(self):
        """A call may schedule others, also for the same moment."""
        self.scheduler.schedule(
            1.0, lambda: self.scheduler.schedule(0.0, self.note, "inner")
        )
        self.scheduler.run_for(1.0)
        self.assertEqual(self.ran, [("inner", 101.0)])

    def test_cancel(self):
        """A cancelled call does not run and says so."""
        call = self.scheduler.schedule(1.0, self.note, "a")
        call.cancel()
        self.scheduler.run_for(2.0)
        self.assertEqual(self.ran, [])
        self.assertFalse(call.active())
        self.assertRaises(AlreadyCancelled, call.cancel)
        self.assertRaises(AlreadyCancelled, call.reset, 1.0)

    def test_called(self):
        """A call that has run can neither be cancelled nor moved."""
        call = self.scheduler.schedule(1.0, self.note, "a")
        self.scheduler.run_for(2.0)
        self.assertFalse(call.active())
        self.assertRaises(AlreadyCalled, call.cancel)
        self.assertRaises(AlreadyCalled, call.delay, 1.0)

    def test_reset_and_delay(self):
        """Calls move to earlier and to later moments."""
        earlier = self.scheduler.schedule(5.0, self.note, "earlier")
        later = self.scheduler.schedule(1.0, self.note, "later")
        earlier.reset(2.0)
        later.delay(2.0)
        self.assertEqual(later.getTime(), 103.0)
        self.scheduler.run_for(10.0)
        self.assertEqual(self.ran, [("earlier", 102.0), ("later", 103.0)])

    def test_next_time(self):
        """The moment of the next call is known, cancelled and moved ones aside."""
        self.assertIsNone(self.scheduler.next_time())
        self.scheduler.schedule(1.0, self.note, "a").cancel()
        self.scheduler.schedule(2.0, self.note, "b").reset(4.0)
        self.assertEqual(self.scheduler.next_time(), 104.0)

    def test_bad_delay(self):
        """Time does not run backwards."""
        self.assertRaises(ValueError, self.scheduler.schedule, -1.0, self.note)
        self.assertRaises(ValueError, self.scheduler.schedule, float("nan"), self.note)

    def test_failing_call(self):
        """What a call raises is logged and the next call runs."""
        self.scheduler.schedule(1.0, lambda: 1 / 0)
        self.scheduler.schedule(2.0, self.note, "b")
        self.scheduler.run_for(3.0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.ran, [("b", 102.0)])

    def test_stall(self):
        """Calls that keep time from going on are an error, not an endless loop."""
        self.patch(scheduler, "STALL_LIMIT", 100)

        def again():
            self.scheduler.schedule(0.0, again)

        again()
        self.assertRaises(SimulationStalled, self.scheduler.run_for, 1.0)

    def test_cancelled_calls_are_swept(self):
        """A timer that is made and cancelled for ever does not grow the heap."""
        for _ in range(10_000):
            self.scheduler.schedule(1000.0, self.note, "never").cancel()
        self.assertLess(len(self.scheduler._heap), 2000)

    def test_rearmed_timer(self):
        """A 10 ms timer over ten minutes fires at each of its moments."""
        fired = []

        def tick():
            fired.append(self.scheduler.now)
            self.scheduler.schedule(0.01, tick)

        tick()
        self.scheduler.run_for(600.0)
        self.assertGreaterEqual(len(fired), 59_999)
        self.assertEqual(len(set(fired)), len(fired))

    def test_pending_of_owner(self):
        """Calls are listed and cancelled by who asked for them."""
        mine = self.scheduler.schedule(2.0, self.note, "mine", owner=self)
        sooner = self.scheduler.schedule(1.0, self.note, "sooner", owner=self)
        self.scheduler.schedule(1.0, self.note, "other")
        self.assertEqual(self.scheduler.pending(self), [sooner, mine])
        self.scheduler.cancel_all(self)
        self.scheduler.run_for(5.0)
        self.assertEqual([name for name, _ in self.ran], ["other"])

    @given(
        st.lists(
            st.tuples(
                st.integers(0, 50),
                st.sampled_from(["keep", "cancel", "reset", "delay"]),
                st.integers(0, 50),
            )
        )
    )
    @settings(max_examples=100, deadline=None)
    def test_any_changes(self, plan):
        """However calls are moved, each runs at the moment it says."""
        time = Scheduler()
        ran = []
        expected = []
        for number, (delay, action, amount) in enumerate(plan):
            call = time.schedule(
                float(delay), lambda n=number: ran.append((time.now, n))
            )
            if action == "cancel":
                call.cancel()
                continue
            if action == "reset":
                call.reset(float(amount))
            elif action == "delay":
                call.delay(float(amount))
            expected.append((call.getTime(), number))
        time.run_for(200.0)
        self.assertEqual(sorted(ran), sorted(expected))
        self.assertEqual([t for t, _ in ran], sorted(t for t, _ in ran))
