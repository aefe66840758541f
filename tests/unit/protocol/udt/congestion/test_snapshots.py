"""Simulations of the native controller, kept as text.

Each plays ACKs and loss reports to the controller alone and writes down what it
decides, rounded so that every platform gives the same text. After a wanted change run
this module as a program to write the files anew:
``python -m tests.unit.protocol.udt.congestion.test_snapshots``.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt.congestion import (
    Acknowledgement,
    NativeControl,
    Parameters,
)

DIRECTORY = pathlib.Path(__file__).parent / "snapshots"


class Play:
    """A native controller on a path that carries so many packets a second."""

    def __init__(self, capacity: int, round_trip_us: int, window: int = 8192) -> None:
        self.shares = iter([0.25, 0.5, 0.75, 1.0] * 100)
        self.control = NativeControl(
            Parameters(
                maximum_packet_size=1500,
                flow_window_packets=window,
                random=lambda: next(self.shares),
            )
        )
        self.capacity = capacity
        self.round_trip_us = round_trip_us
        self.step = 0
        self.index = 0
        self.speed = 16
        self.estimate = 1

    def acknowledge(self, steps: int = 1) -> None:
        """Let so many ACK timers of 10 ms pass."""
        for _ in range(steps):
            control = self.control
            self.step += 1
            pace = 1e6 / control.packet_sending_period_us
            window = control.congestion_window_packets * 1e6 / self.round_trip_us
            rate = int(min(pace, window, self.capacity))
            count = max(1, rate // 100)
            self.index += count
            self.speed = (7 * self.speed + rate) // 8
            self.estimate = (7 * self.estimate + self.capacity) // 8
            control.on_ack(
                Acknowledgement(
                    now=self.step / 100,
                    index=self.index,
                    newly_acknowledged=count,
                    packets_in_flight=count,
                    rtt_us=self.round_trip_us,
                    packet_arrival_speed=self.speed,
                    estimated_link_capacity=self.estimate,
                )
            )

    def lose(self, behind: int = 10, ahead: int = 200) -> None:
        """Report a packet lost that was sent so long ago, and tell the newest."""
        self.control.on_loss(
            self.index - behind, self.index + ahead, now=self.step / 100
        )

    def line(self, event: str) -> str:
        """Return the state after an event."""
        control = self.control
        phase = "start" if control.slow_start else "steady"
        return (
            f"{self.step * 10:6} ms  {event:<12} {phase:<6} "
            f"period {control.packet_sending_period_us:10.2f} us  "
            f"window {control.congestion_window_packets:9.1f}"
        )


def no_loss() -> Iterator[str]:
    """Slow start up to the peer's window, then the increase by spare capacity."""
    play = Play(capacity=8000, round_trip_us=50_000, window=400)
    for _ in range(40):
        play.acknowledge(1 if play.step < 20 else 10)
        yield play.line("ack")


def early_loss() -> Iterator[str]:
    """A loss in the first round: 16 packets a second, and the long way back."""
    play = Play(capacity=8000, round_trip_us=50_000)
    play.lose(behind=0, ahead=16)
    yield play.line("loss")
    for _ in range(40):
        play.acknowledge(25)
        yield play.line("25 acks")


def periodic_loss() -> Iterator[str]:
    """One loss every 200 ms, each a new congestion period."""
    play = Play(capacity=80_000, round_trip_us=20_000)
    play.acknowledge(30)
    yield play.line("30 acks")
    for _ in range(30):
        play.lose(behind=-1)
        yield play.line("loss")
        play.acknowledge(20)
        yield play.line("20 acks")


def burst_of_reports() -> Iterator[str]:
    """Many reports in one congestion period: at most five decreases, at random."""
    play = Play(capacity=80_000, round_trip_us=20_000)
    play.acknowledge(30)
    for burst in range(6):
        play.lose(behind=-1, ahead=1000)
        yield play.line(f"burst {burst}")
        for _ in range(12):
            play.lose(behind=0, ahead=1000)
            yield play.line("same period")
        play.acknowledge(60)
        yield play.line("60 acks")


def timeout() -> Iterator[str]:
    """A timeout ends slow start and afterwards does nothing."""
    play = Play(capacity=8000, round_trip_us=100_000)
    play.acknowledge(12)
    yield play.line("12 acks")
    for _ in range(3):
        play.control.on_timeout(now=play.step / 100)
        yield play.line("timeout")
        play.acknowledge(10)
        yield play.line("10 acks")


SIMULATIONS: dict[str, Callable[[], Iterator[str]]] = {
    play.__name__: play
    for play in (no_loss, early_loss, periodic_loss, burst_of_reports, timeout)
}


def text_of(name: str) -> str:
    """Return what a simulation writes."""
    simulation = SIMULATIONS[name]
    return "\n".join([f"# {simulation.__doc__}", *simulation(), ""])


class SnapshotTests(SynchronousTestCase):
    """The native controller decides as it did."""

    def check(self, name: str) -> None:
        stored = (DIRECTORY / f"native_{name}.txt").read_text()
        self.assertEqual(text_of(name).splitlines(), stored.splitlines())

    def test_no_loss(self) -> None:
        """Without loss."""
        self.check("no_loss")

    def test_early_loss(self) -> None:
        """With a loss in the first round."""
        self.check("early_loss")

    def test_periodic_loss(self) -> None:
        """With losses now and then."""
        self.check("periodic_loss")

    def test_burst_of_reports(self) -> None:
        """With many reports at once."""
        self.check("burst_of_reports")

    def test_timeout(self) -> None:
        """With timeouts."""
        self.check("timeout")

    def test_nothing_forgotten(self) -> None:
        """Each file belongs to a simulation."""
        stored = {path.stem for path in DIRECTORY.glob("*.txt")}
        self.assertEqual(stored, {f"native_{name}" for name in SIMULATIONS})


def main() -> None:
    """Write the files."""
    DIRECTORY.mkdir(exist_ok=True)
    for name in SIMULATIONS:
        (DIRECTORY / f"native_{name}.txt").write_text(text_of(name))


if __name__ == "__main__":
    main()
