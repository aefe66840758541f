"""The race of tunnelling methods: order, stagger, ends, reports."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.tunnelling.methods import METHOD_NAMES, POST, UPGRADE
from dwcloud.protocol.tunnelling.prober import (
    PROBE_LIMIT,
    STAGGER,
    Candidate,
    Carrier,
    NoneWorks,
    Prober,
    ProbeResult,
    Probing,
    ProbingCore,
    Selected,
    StartCandidate,
    StopCandidate,
    candidates_for,
    probing_machine,
)

ALL = candidates_for((Carrier.CONNECT, Carrier.WEB))
FIRST, SECOND, THIRD = ALL[:3]


class RaceTests(SynchronousTestCase):
    """The first verified one wins."""

    def setUp(self) -> None:
        self.now = 0.0
        self.prober = Prober(ALL)

    def events(self) -> list[object]:
        """What is to be done now."""
        events = []
        while (event := self.prober.next_event()) is not None:
            events.append(event)
        return events

    def wait(self, seconds: float) -> list[object]:
        """Let time pass."""
        end = self.now + seconds
        while (at := self.prober.next_timer()) is not None and at <= end:
            self.now = at
            self.prober.handle_timer(now=at)
        self.now = end
        return self.events()

    def test_order(self) -> None:
        """By method first, then by carrier; finite messages come last."""
        self.assertEqual(FIRST, Candidate(UPGRADE, Carrier.CONNECT))
        self.assertEqual(SECOND, Candidate(UPGRADE, Carrier.WEB))
        self.assertEqual([c.method for c in ALL[::2]], list(METHOD_NAMES))
        self.assertEqual(str(FIRST), "upgrade by CONNECT")
        self.assertEqual(str(Candidate(POST)), "post")

    def test_staggered(self) -> None:
        """One starts every 0.2 s beside those under way."""
        self.prober.start(now=0.0)
        self.assertEqual(self.events(), [StartCandidate(FIRST)])
        self.assertEqual(self.wait(STAGGER), [StartCandidate(SECOND)])
        self.assertEqual(self.wait(STAGGER / 2), [])
        self.assertEqual(self.wait(STAGGER / 2), [StartCandidate(THIRD)])

    def test_winner(self) -> None:
        """The rest is stopped, or never tried."""
        self.prober.start(now=0.0)
        self.wait(STAGGER)
        self.prober.verify(SECOND, now=0.3)
        self.assertEqual(self.events(), [StopCandidate(FIRST), Selected(SECOND)])
        results = [report.result for report in self.prober.reports]
        self.assertEqual(
            results,
            [ProbeResult.STOPPED, ProbeResult.WORKS]
            + [ProbeResult.NOT_TRIED] * (len(ALL) - 2),
        )
        self.assertAlmostEqual(self.prober.reports[1].seconds, 0.1)
        self.assertIsNone(self.prober.next_timer())
        self.prober.fail(FIRST, "too late", now=1.0)
        self.assertEqual(self.events(), [])

    def test_failure_hurries(self) -> None:
        """When all under way have failed the next one starts at once."""
        self.prober.start(now=0.0)
        self.wait(STAGGER)
        self.prober.fail(FIRST, "no", now=0.25)
        self.assertEqual(self.events(), [])
        self.prober.fail(SECOND, "no", now=0.3)
        self.assertEqual(self.events(), [StartCandidate(THIRD)])

    def test_carrier(self) -> None:
        """Where a carrier itself fails, no other method is tried on it."""
        self.prober.start(now=0.0)
        self.events()
        self.prober.fail(FIRST, "CONNECT is forbidden", now=0.1, all_on=True)
        self.assertEqual(self.events(), [StartCandidate(SECOND)])
        self.wait(PROBE_LIMIT / 2)
        failed = [r for r in self.prober.reports if r.reason == "CONNECT is forbidden"]
        self.assertEqual(len(failed), len(METHOD_NAMES))

    def test_none(self) -> None:
        """When all have failed that is told."""
        self.prober.start(now=0.0)
        for candidate in ALL:
            self.assertEqual(self.events(), [StartCandidate(candidate)])
            self.prober.fail(candidate, "no", now=0.0)
        self.assertEqual(self.events(), [NoneWorks()])

    def test_limit(self) -> None:
        """A probe ends in time, whatever does not come to its end."""
        self.prober.start(now=0.0)
        events = self.wait(PROBE_LIMIT)
        self.assertEqual(events[-1], NoneWorks())
        self.assertEqual(sum(isinstance(e, StopCandidate) for e in events), len(ALL))
        self.assertIn("within 12 seconds", self.prober.reports[0].reason)

    def test_cancelled(self) -> None:
        """Nothing is selected any more."""
        self.prober.start(now=0.0)
        self.prober.cancel()
        self.assertEqual(self.events(), [StartCandidate(FIRST), StopCandidate(FIRST)])
        self.prober.verify(FIRST, now=0.0)
        self.assertEqual(self.events(), [])

    def test_survey(self) -> None:
        """Each comes to its end, and then the cheapest that works is told."""
        self.prober.start(now=0.0, survey=True)
        for candidate in ALL:
            self.assertEqual(self.events(), [StartCandidate(candidate)])
            if candidate.carrier is Carrier.WEB:
                self.prober.verify(candidate, now=0.0)
            else:
                self.prober.fail(candidate, "no", now=0.0)
        self.assertEqual(self.events(), [Selected(SECOND)])
        self.assertEqual(len(self.prober.reports), len(ALL))

    def test_nothing_to_try(self) -> None:
        """Without a candidate nothing works."""
        self.prober = Prober(())
        self.prober.start(now=0.0)
        self.assertEqual(self.events(), [NoneWorks()])

    @given(st.integers(0, 10_000), st.booleans())
    def test_any_history(self, seed: int, survey: bool) -> None:
        """Whatever happens, a probe ends once, in time, and stops what it began."""
        chance = random.Random(seed)
        prober, now = Prober(ALL), 0.0
        running: set[Candidate] = set()
        ends: list[object] = []
        prober.start(now=now, survey=survey)
        while not ends:
            while (event := prober.next_event()) is not None:
                if isinstance(event, StartCandidate):
                    running.add(event.candidate)
                elif isinstance(event, StopCandidate):
                    running.remove(event.candidate)
                else:
                    ends.append(event)
            if ends:
                break
            at = prober.next_timer()
            assert at is not None
            if running and chance.random() < 0.5:
                candidate = chance.choice(sorted(running, key=str))
                running.remove(candidate)
                now = min(at, now + chance.random() / 5)
                if chance.random() < 0.2:
                    prober.verify(candidate, now=now)
                else:
                    fatal = chance.random() < 0.2
                    prober.fail(candidate, "no", now=now, all_on=fatal)
            else:
                now = at
                prober.handle_timer(now=now)
        self.assertEqual(running, set())
        self.assertLessEqual(now, PROBE_LIMIT)
        works = [r for r in prober.reports if r.result is ProbeResult.WORKS]
        self.assertEqual(bool(works), isinstance(ends[0], Selected))
        self.assertEqual(len(prober.reports), len(ALL))


class MachineTests(SynchronousTestCase):
    """All states take all inputs."""

    def test_all_pairs(self) -> None:
        """No input is an error in any state."""
        inputs = {
            "race_began": (),
            "survey_began": (),
            "next_fell_due": (),
            "candidate_verified": (FIRST,),
            "candidate_failed": (FIRST, "no"),
            "carrier_failed": (Carrier.WEB, "no"),
            "time_ran_out": (),
            "cancelled": (),
            "_left_none": (),
        }
        paths: list[list[str]] = [
            [],
            ["race_began"],
            ["survey_began"],
            ["race_began", "cancelled"],
        ]
        self.assertEqual(set(inputs), {n for n in vars(Probing) if n in inputs})
        for path in paths:
            for name, arguments in inputs.items():
                machine = probing_machine(ProbingCore(list(ALL)))
                for step in path:
                    getattr(machine, step)(*inputs[step])
                self.assertIsNone(getattr(machine, name)(*arguments))
