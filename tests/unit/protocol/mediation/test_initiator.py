"""The client's request over UDP and TCP, by time and by failure."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.mediation.initiator import (
    Answered,
    AskOverTCP,
    AskOverUDP,
    Channel,
    InitiationCore,
    Initiator,
    InitiatorEvent,
    NoAnswer,
    StopAsking,
    initiation_machine,
)
from dwcloud.protocol.mediation.messages import ConnectResponse
from dwcloud.protocol.mediation.result_codes import ResultCode
from tests.unit.protocol.mediation.machine_walk import walk

RESPONSE = ConnectResponse(result=ResultCode.PEER_UNKNOWN)
UDP, TCP = Channel.UDP, Channel.TCP


def drain(initiator: Initiator) -> list[InitiatorEvent]:
    """Return all events."""
    events = []
    while (event := initiator.next_event()) is not None:
        events.append(event)
    return events


class InitiatorTests(SynchronousTestCase):
    """One request."""

    def setUp(self) -> None:
        self.initiator = Initiator(limit=20.0)
        self.initiator.start(now=100.0)

    def test_udp_alone(self) -> None:
        """An answer within half a second needs no TCP."""
        self.assertEqual(drain(self.initiator), [AskOverUDP()])
        self.assertEqual(self.initiator.next_timer(), 100.5)
        self.initiator.receive_answer(UDP, RESPONSE, now=100.25)
        self.assertEqual(drain(self.initiator), [Answered(RESPONSE, UDP, 0.25)])
        self.assertIsNone(self.initiator.next_timer())

    def test_doubled(self) -> None:
        """Half a second later TCP starts; its answer stops UDP."""
        drain(self.initiator)
        self.initiator.handle_timer(now=100.5)
        self.assertEqual(drain(self.initiator), [AskOverTCP()])
        self.initiator.receive_answer(TCP, RESPONSE, now=101.0)
        self.assertEqual(
            drain(self.initiator), [StopAsking(UDP), Answered(RESPONSE, TCP, 1.0)]
        )

    def test_first_answer_wins(self) -> None:
        """The second answer changes nothing."""
        self.initiator.handle_timer(now=100.5)
        self.initiator.receive_answer(UDP, RESPONSE, now=101.0)
        drain(self.initiator)
        self.initiator.receive_answer(TCP, RESPONSE, now=101.1)
        self.assertEqual(drain(self.initiator), [])

    def test_udp_error(self) -> None:
        """When UDP fails TCP starts at once."""
        drain(self.initiator)
        self.initiator.fail(UDP, "no route", now=100.0)
        self.assertEqual(drain(self.initiator), [AskOverTCP()])
        self.initiator.handle_timer(now=100.5)
        self.assertEqual(drain(self.initiator), [])

    def test_both_fail(self) -> None:
        """Both reasons are told."""
        self.initiator.handle_timer(now=100.5)
        self.initiator.fail(TCP, "refused", now=100.6)
        drain(self.initiator)
        self.initiator.fail(UDP, "timeout", now=139.5)
        self.assertEqual(
            drain(self.initiator), [NoAnswer({TCP: "refused", UDP: "timeout"})]
        )

    def test_limit(self) -> None:
        """After the limit everything is stopped."""
        self.initiator.handle_timer(now=100.5)
        drain(self.initiator)
        self.assertEqual(self.initiator.next_timer(), 120.0)
        self.initiator.handle_timer(now=120.0)
        reason = "no answer within 20 seconds"
        self.assertEqual(
            drain(self.initiator),
            [StopAsking(UDP), StopAsking(TCP), NoAnswer({UDP: reason, TCP: reason})],
        )

    def test_late_timer(self) -> None:
        """A timer that is late does both of its tasks."""
        self.initiator.handle_timer(now=130.0)
        self.assertIsInstance(drain(self.initiator)[-1], NoAnswer)

    def test_cancelled(self) -> None:
        """Cancelling stops what is under way and says nothing."""
        self.initiator.cancel()
        self.assertEqual(drain(self.initiator), [AskOverUDP(), StopAsking(UDP)])
        self.assertIsNone(self.initiator.next_timer())

    @given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 10)), max_size=20))
    def test_any_order(self, steps: list[tuple[int, float]]) -> None:
        """There is one end, within the limit, and nothing is left under way."""
        initiator = Initiator(limit=20.0)
        now = 0.0
        initiator.start(now=now)
        events = []
        for what, passed in steps:
            now += passed
            initiator.handle_timer(now=now)
            if what in (0, 1):
                channel = (UDP, TCP)[what]
                initiator.receive_answer(channel, RESPONSE, now=now)
            elif what in (2, 3):
                initiator.fail((UDP, TCP)[what - 2], "x", now=now)
            events += drain(initiator)
        initiator.handle_timer(now=max(now, 20.0))
        events += drain(initiator)
        ends = [e for e in events if isinstance(e, Answered | NoAnswer)]
        self.assertEqual(len(ends), 1)
        self.assertIs(events[-1], ends[0])
        self.assertLessEqual(sum(isinstance(e, AskOverTCP) for e in events), 1)


class InitiationWalk(SynchronousTestCase):
    """Each input in each state."""

    INPUTS = {
        "started": lambda m: m.started(),
        "tcp due": lambda m: m.tcp_due(),
        "answered": lambda m: m.answered(UDP, RESPONSE),
        "udp failed": lambda m: m.udp_failed("x"),
        "tcp failed": lambda m: m.tcp_failed("x"),
        "time": lambda m: m.time_ran_out(),
        "cancelled": lambda m: m.cancelled(),
    }

    def make(self, *steps: str) -> Any:
        """Return a machine after some inputs."""
        machine = initiation_machine(InitiationCore(20.0))
        for step in steps:
            self.INPUTS[step](machine)
        return machine

    def test_walk(self) -> None:
        """The table of transitions, whole."""
        udp, both = "asking over UDP", "asking over UDP and TCP"
        only_udp = "asking over UDP after TCP failed"
        only_tcp = "asking over TCP after UDP failed"
        reach = {
            "fresh": lambda: self.make(),
            udp: lambda: self.make("started"),
            both: lambda: self.make("started", "tcp due"),
            only_udp: lambda: self.make("started", "tcp due", "tcp failed"),
            only_tcp: lambda: self.make("started", "udp failed"),
            "over": lambda: self.make("started", "time"),
        }
        moves = {
            ("fresh", "started"): udp,
            ("fresh", "cancelled"): "over",
            (udp, "tcp due"): both,
            (udp, "udp failed"): only_tcp,
            (both, "udp failed"): only_tcp,
            (both, "tcp failed"): only_udp,
            (only_udp, "udp failed"): "over",
            (only_tcp, "tcp failed"): "over",
        }
        for state in (udp, both, only_udp, only_tcp):
            for end in ("answered", "time", "cancelled"):
                moves[state, end] = "over"
        for (state, given_input), after in walk(reach, self.INPUTS).items():
            self.assertEqual(
                after, moves.get((state, given_input), state), (state, given_input)
            )
