"""Pairs of connections through anything that may happen to them.

``DWCLOUD_UDT_SEEDS=10000`` tries that many histories instead of a few hundred.
"""

from __future__ import annotations

import os
import random

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
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.protocol.udt.history import History

SEEDS = int(os.environ.get("DWCLOUD_UDT_SEEDS", "300"))

CONTROLS = ("bbr", "cubic", "native", "fixed")

sides = st.integers(0, 1)


class Connections(RuleBasedStateMachine):
    """All that may happen, in any order, with shortest examples of what goes wrong."""

    history: History

    @initialize(
        seed=st.integers(0, 1 << 20),
        messages=st.booleans(),
        rendezvous=st.booleans(),
        wrap=st.integers(0, 100),
        control=st.sampled_from(CONTROLS),
        packet_size=st.sampled_from([76, 600, 1500]),
    )
    def begin(self, **options: object) -> None:
        self.history = History(**options)  # type: ignore[arg-type]

    @rule(
        which=sides,
        size=st.integers(1, 20_000),
        in_order=st.booleans(),
        ttl=st.sampled_from([None, 0.01, 0.3]),
    )
    def write(self, which: int, size: int, in_order: bool, ttl: float | None) -> None:
        self.history.write(which, size, in_order, ttl)

    @rule(which=sides, going_on=st.booleans())
    def read(self, which: int, going_on: bool) -> None:
        self.history.read(which, going_on)

    @rule(
        loss=st.sampled_from([0.0, 0.0, 0.05, 0.3, 1.0]),
        jitter=st.sampled_from([0.0, 0.01, 0.1]),
        duplication=st.sampled_from([0.0, 0.2]),
    )
    def change_link(self, loss: float, jitter: float, duplication: float) -> None:
        self.history.link(loss, jitter, duplication)

    @rule(which=sides, kind=st.integers(0, 6), rebound=st.booleans())
    def forge(self, which: int, kind: int, rebound: bool) -> None:
        self.history.forge(which, kind, rebound)

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.3, 2.0]))
    def wait(self, seconds: float) -> None:
        self.history.run(seconds)

    @rule(which=sides)
    def close(self, which: int) -> None:
        self.history.close(which)

    @precondition(lambda self: hasattr(self, "history"))
    @invariant()
    def holds(self) -> None:
        self.history.check()

    def teardown(self) -> None:
        if hasattr(self, "history"):
            self.history.finish()


def live(seed: int) -> None:
    """Live through a history that a seed decides on."""
    chance = random.Random(seed)
    history = History(
        seed,
        messages=chance.random() < 0.4,
        rendezvous=chance.random() < 0.4,
        wrap=chance.randrange(200),
        control=chance.choice(CONTROLS),
        packet_size=chance.choice([76, 600, 1500, 1500]),
    )
    for _ in range(chance.randrange(5, 40)):
        which = chance.randrange(2)
        match chance.randrange(8):
            case 0 | 1 | 2:
                size = chance.choice([1, 100, 1456, 5000, 20_000])
                ttl = chance.choice([None, None, 0.05])
                history.write(which, size, chance.random() < 0.7, ttl)
            case 3:
                history.read(which, chance.random() < 0.6)
            case 4:
                loss = chance.choice([0.0, 0.01, 0.1, 0.4, 1.0])
                history.link(loss, chance.choice([0.0, 0.02, 0.2]), chance.random() / 4)
            case 5:
                history.forge(which, chance.randrange(7), chance.random() < 0.5)
            case 6 if chance.random() < 0.1:
                history.close(which)
            case _:
                history.run(chance.choice([0.001, 0.02, 0.2, 1.0]))
        history.check()
    history.finish()


class SeedTests(SynchronousTestCase):
    """Many histories, each known by its number."""

    timeout = 7200

    def test_seeds(self) -> None:
        """Every byte comes once and in order, however the link behaves. [udt:stream]"""
        for seed in range(SEEDS):
            try:
                live(seed)
            except Exception as error:
                raise AssertionError(f"the history of seed {seed} fails") from error


class StateMachineTests(SynchronousTestCase):
    """The same by Hypothesis, which looks for the shortest history that fails."""

    def test_state_machine(self) -> None:
        """Nothing that may happen breaks what must hold. [udt:stream]"""
        run_state_machine_as_test(
            Connections,
            settings=settings(max_examples=60, stateful_step_count=25, deadline=None),
        )
