"""The machine of a race, and races of any course."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from automat import NoTransition
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import IdentityMismatch
from dwcloud.net.path import Path
from dwcloud.peer.connector import CloudConnector
from dwcloud.peer.race import RaceCore, race_machine
from dwcloud.peer.status import PathKind
from tests.unit.peer.test_connector import FakeAttempt, FakePath

RELAY = PathKind.RELAY


class RaceMachineTests(SynchronousTestCase):
    """The states of a race with every input."""

    INPUTS: dict[str, Callable[[Any], object]] = {
        "held": lambda race: race.path_held(FakePath(RELAY), 1.0),
        "held lost": lambda race: race.held_path_lost(),
        "begun": lambda race: race.path_begun(),
        "begun failed": lambda race: race.begun_path_failed(),
        "selected": lambda race: race.path_selected("best"),
        "all failed": lambda race: race.all_failed(),
        "time": lambda race: race.time_ran_out(),
        "cancelled": lambda race: race.cancelled(),
    }
    TABLE: dict[str, dict[str, list[object]]] = {
        "": {
            "held": [],
            "begun": [],
            "selected": ["best"],
            "all failed": [None],
            "time": [None],
            "cancelled": ["abandoned"],
        },
        "held": {
            "held": [],
            "held lost": [],
            "begun": [],
            "selected": ["best"],
            "time": ["the held one"],
            "cancelled": ["abandoned"],
        },
        "begun": {
            "held": [],
            "begun failed": [],
            "selected": ["best"],
            "time": [None],
            "cancelled": ["abandoned"],
        },
        "held, begun": {
            "held": [],
            "held lost": [],
            "begun failed": [],
            "selected": ["best"],
            "time": ["the held one"],
            "cancelled": ["abandoned"],
        },
        "cancelled": {name: [] for name in INPUTS},
        "selected": {name: [] for name in INPUTS},
        "time": {name: [] for name in INPUTS},
        "all failed": {name: [] for name in INPUTS},
    }

    def test_every_pair(self) -> None:
        """Each input does what the table says for what came before it."""
        for first, row in self.TABLE.items():
            for name, act in self.INPUTS.items():
                log: list[object] = []
                core = RaceCore(FakeConnector(log))
                race = race_machine(core)
                for step in first.split(", ") if first else ():
                    self.INPUTS[step](race)
                held = core.held
                log.clear()
                if name not in row:
                    self.assertRaises(NoTransition, act, race)
                    continue
                act(race)
                log = ["the held one" if x is held and x else x for x in log]
                self.assertEqual(log, row[name], f"{first}, then {name}")
                if core.held is None:
                    self.assertIsNone(core.hold)


class FakeConnector:
    """Records how a race ended."""

    def __init__(self, log: list[object]) -> None:
        self.clock = Clock()
        self.finish = log.append
        self.abandon = lambda: log.append("abandoned")


class RandomRace(RuleBasedStateMachine):
    """Any outcomes in any order and at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.attempts: list[FakeAttempt] = []
        self.results: list[Any] = []
        self.cancelled = False
        self.begun: list[object] = []

    def begin(self, path: Path) -> bool:
        # The rule that holds a race together: no second one while the first may live.
        for fake in self.attempts:
            if fake.path in self.begun:
                assert (fake.settled and not fake.verified) or fake.cancelled
        self.begun.append(path)
        return True

    @initialize(
        kinds=st.lists(
            st.tuples(st.sampled_from(PathKind), st.sampled_from([0.0, 0.1, 1.0])),
            min_size=1,
            max_size=6,
        ),
        prefer=st.sampled_from([None, "udp", "tcp"]),
        grace=st.sampled_from([0.0, 0.3]),
    )
    def start(
        self, kinds: list[tuple[PathKind, float]], prefer: str | None, grace: float
    ) -> None:
        self.attempts = [
            FakeAttempt(self.clock, kind, number, delay)
            for number, (kind, delay) in enumerate(kinds)
        ]
        self.connector = CloudConnector(
            self.clock,
            [fake.attempt() for fake in self.attempts],
            peer="x",
            prefer=prefer,
            relay_grace=grace,
            timeout=3.0,
            begin=self.begin,
        )
        self.racing = self.connector.connect()
        self.racing.addBoth(self.results.append)

    def open_attempts(self) -> list[FakeAttempt]:
        return [
            fake
            for fake in self.attempts
            if fake.started_at is not None and not (fake.settled or fake.cancelled)
        ]

    @precondition(lambda self: self.open_attempts())
    @rule(data=st.data(), proven=st.booleans())
    def open(self, data: st.DataObject, proven: bool) -> None:
        data.draw(st.sampled_from(self.open_attempts())).open(proven=proven)

    @precondition(lambda self: self.open_attempts())
    @rule(data=st.data())
    def verify(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.open_attempts())).verify()

    @precondition(lambda self: self.open_attempts())
    @rule(data=st.data(), same=st.booleans())
    def fail(self, data: st.DataObject, same: bool) -> None:
        error = IdentityMismatch("other") if same else ConnectionRefusedError("no")
        data.draw(st.sampled_from(self.open_attempts())).fail(error)

    @precondition(lambda self: self.open_attempts())
    @rule(data=st.data())
    def make_stubborn(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.open_attempts())).stubborn = True

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.3, 1.0, 3.0]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def cancel(self) -> None:
        self.cancelled = True
        self.racing.cancel()

    @invariant()
    def one_result_and_nothing_left(self) -> None:
        assert len(self.results) <= 1
        if self.attempts == [] and not self.results:
            return
        if not self.results:
            assert self.clock.getDelayedCalls()
            return
        assert self.clock.getDelayedCalls() == []
        assert self.open_attempts() == []
        (result,) = self.results
        winner = result if isinstance(result, FakePath) else None
        for fake in self.attempts:
            # Each path that came about is closed, once, unless it is the winner.
            assert fake.path.closed == (fake.verified and fake.path is not winner)
        assert winner is None or any(winner is fake.path for fake in self.attempts)
        # Who was begun and came about is the winner, unless time was over.
        for fake in self.attempts:
            if fake.path in self.begun and fake.path is not winner:
                assert fake.cancelled or not fake.verified

    def teardown(self) -> None:
        if not self.attempts and not self.results:
            return
        self.clock.advance(3.0)
        assert len(self.results) == 1
        self.one_result_and_nothing_left()


class RandomRaceTests(SynchronousTestCase):
    """The state machine above, as a test."""

    def test_any_sequence(self) -> None:
        """Exactly one result, every losing path closed once, no timer left."""
        run_state_machine_as_test(
            RandomRace, settings=settings(max_examples=100, stateful_step_count=15)
        )
