"""What happened in a connect session, from the lines of all who took part.

The clocks of their machines differ, and what ``twistd`` writes tells whole seconds
only. So lines are put in order by what must have come before what as well as by their
times.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import attrs

from dwcloud.cli.log_reading import LogLine

__all__ = [
    "PROGRAMS",
    "PathTried",
    "Step",
    "Story",
    "tell_story",
]

PROGRAMS = ("client", "mediator", "server", "relay")


@attrs.frozen
class Step:
    """A kind of line.

    :ivar name: what happens.
    :ivar program: who says it.
    :ivar rank: steps of lower rank come first, where times leave it open.
    :ivar pattern: what the message looks like.
    """

    name: str
    program: str
    rank: int
    pattern: re.Pattern[str]


def _step(rank: int, program: str, name: str, pattern: str) -> Step:
    return Step(name, program, rank, re.compile(pattern, re.DOTALL))


STEPS = (
    _step(10, "client", "asked", r"asking mediator "),
    _step(20, "mediator", "heard", r".* at \S+ asks for "),
    _step(30, "mediator", "announced", r"telling the server of "),
    _step(40, "server", "told", r"the mediator tells of client "),
    _step(70, "mediator", "answered", r"answered (?P<result>[^,]*), server "),
    _step(71, "mediator", "late", r"the server confirms from .*, after the answer"),
    _step(75, "server", "confirmed", r"the mediator has the confirmation"),
    _step(75, "server", "unconfirmed", r"connection_ack was not accepted: |no UDP add"),
    _step(
        80,
        "client",
        "introduced",
        r"the mediator answered (?P<result>.*) over \S+ after [\d.]+ s",
    ),
    _step(80, "client", "unanswered", r"the mediator did not answer: (?P<reason>.*)"),
    _step(90, "client", "trying", r"trying (?P<attempt>.+)"),
    _step(100, "relay", "relay asked", r"relay session \w+ created for "),
    _step(100, "relay", "relay refused", r"no relay session: (?P<reason>.*)"),
    _step(110, "relay", "joined", r"relay session \w+ client .* joined with "),
    _step(110, "relay", "waited", r"the server had no connection free in time"),
    _step(120, "server", "admitted", r"path by (?P<path>\w+) from \S+ admitted"),
    _step(
        120, "server", "path refused", r"path by (?P<path>\w+) from \S+ refused: (.*)"
    ),
    _step(
        150,
        "client",
        "connected",
        r"connected by (?P<path>\w+) to (?P<address>\S+) after (?P<seconds>[\d.]+) s",
    ),
    _step(
        150,
        "client",
        "failed",
        r"failed after (?P<seconds>[\d.]+) s: (?P<reason>.*)",
    ),
    _step(
        130,
        "client",
        "attempt failed",
        r"(?P<attempt>\S.*?) failed after (?P<seconds>[\d.]+) s: (?P<reason>.*)",
    ),
    _step(
        131,
        "client",
        "verified",
        r"(?P<attempt>\S.*?) verified after (?P<seconds>[\d.]+) s",
    ),
    _step(132, "client", "selected", r"(?P<attempt>\S.*) selected"),
    _step(140, "server", "path ended", r"path by \w+ ended in the opening: "),
    _step(145, "server", "opened", r"stream opened: "),
    _step(145, "server", "refused", r"stream refused: (?P<reason>.*)"),
    _step(160, "mediator", "reported", r"the client tells: (?P<outcome>.*)"),
    _step(190, "relay", "tunnel ended", r"relay session \w+ tunnel ended after "),
    _step(200, "server", "closed", r"stream closed: "),
)
"""In the order in which patterns are tried."""

_UNKNOWN_RANK = 85

_BEFORE = (
    # (step of one program, step of another one that cannot come earlier)
    ("asked", "heard"),
    ("answered", "introduced"),
    ("announced", "told"),
    ("told", "answered"),
    ("answered", "confirmed"),
    ("trying", "relay asked"),
    ("joined", "connected"),
    ("selected", "reported"),
)
_CLOCK = 0.05
"""Seconds that clocks may differ without a word."""


@attrs.frozen
class Said:
    """A line and what is known of it.

    :ivar at: its time by the mediator's clock, as far as that can be told.
    """

    line: LogLine
    step: Step | None
    at: float

    @property
    def rank(self) -> int:
        """Where it belongs, if times leave that open."""
        return _UNKNOWN_RANK if self.step is None else self.step.rank


@attrs.define
class PathTried:
    """One path that the client tried.

    :ivar began: seconds after the first line, None if that is not known.
    :ivar seconds: that it took until it was verified or failed.
    :ivar outcome: ``selected``, ``verified``, ``failed`` or ``given up``.
    """

    attempt: str
    began: float | None = None
    seconds: float | None = None
    outcome: str = "given up"
    reason: str = ""


@attrs.frozen
class Story:
    """A session.

    :ivar said: all lines, in order.
    :ivar paths: what the client tried.
    :ivar shifts: seconds by which times of a program were moved, because its clock
        differs.
    :ivar silent: programs that say nothing of the session.
    :ivar succeeded: whether there was a connection; None if that is not known.
    :ivar conclusion: how it ended and, if badly, where.
    """

    session: str
    said: tuple[Said, ...]
    paths: tuple[PathTried, ...]
    shifts: dict[str, float]
    silent: tuple[str, ...]
    succeeded: bool | None
    conclusion: str


def tell_story(session: str, logs: Sequence[list[LogLine]]) -> Story:
    """Put together what logs say of a session."""
    known = [[_recognise(line) for line in log] for log in logs]
    shifts = _shifts([said for log in known for said in log])
    moved = [
        [
            attrs.evolve(said, at=said.at + shifts.get(said.line.program, 0.0))
            for said in log
        ]
        for log in known
    ]
    ordered = _merged(moved)
    steps: dict[str, Said] = {}
    for said in ordered:
        if said.step is not None:
            steps.setdefault(said.step.name, said)
    succeeded, conclusion = _conclude(steps)
    spoke = {said.line.program for said in ordered}
    return Story(
        session,
        tuple(ordered),
        tuple(_paths(ordered)),
        shifts,
        tuple(program for program in PROGRAMS if program not in spoke),
        succeeded,
        conclusion,
    )


def _recognise(line: LogLine) -> Said:
    for step in STEPS:
        fits = step.program == line.program or line.program == "other"
        if fits and step.pattern.match(line.message):
            return Said(attrs.evolve(line, program=step.program), step, line.time)
    return Said(line, None, line.time)


# Clocks


def _shifts(said: Iterable[Said]) -> dict[str, float]:
    """Return by how much the times of programs are to be moved.

    The least that puts everything after what it cannot precede; the middle, where a
    program is bounded from both sides and off.
    """
    first: dict[str, Said] = {}
    for each in said:
        if each.step is not None:
            first.setdefault(each.step.name, each)
    shifts: dict[str, float] = {}
    present = {each.line.program for each in first.values()}
    order = [p for p in ("mediator", "client", "server", "relay") if p in present]
    for number, program in enumerate(order):
        least, most = float("-inf"), float("inf")
        for earlier, later in _BEFORE:
            if not _holds(earlier, later, first):
                continue
            a, b = first[earlier], first[later]
            if not {a.line.program, b.line.program} <= {*order[: number + 1]}:
                continue  # the other one's clock is not known yet
            moved = a.at + shifts.get(a.line.program, 0.0)
            limit = b.at + shifts.get(b.line.program, 0.0) - moved
            # What tells whole seconds may mean any time within one.
            if a.line.program == program:
                most = min(most, limit + b.line.precision)
            elif b.line.program == program:
                least = max(least, -limit - b.line.precision)
        shift = _within(least, most)
        if abs(shift) > _CLOCK:
            shifts[program] = shift
    return shifts


def _holds(earlier: str, later: str, first: dict[str, Said]) -> bool:
    """Tell whether two steps were taken, and in this order."""
    if earlier not in first or later not in first:
        return False
    if (earlier, later) == ("told", "answered"):
        # Else the answer did not wait for the server.
        return "confirmed" in first and "late" not in first
    if (earlier, later) == ("joined", "connected"):
        return first[later].line.message.startswith("connected by relay")
    return True


def _within(least: float, most: float) -> float:
    if least <= 0.0 <= most:
        return 0.0
    if least > float("-inf") and most < float("inf"):
        return (least + most) / 2
    return least if least > 0.0 else most


# Order


def _merged(logs: Sequence[list[Said]]) -> list[Said]:
    """Return all lines in order; those of one file keep theirs."""
    queues = [list(reversed(log)) for log in logs if log]
    ordered: list[Said] = []
    while queues:
        best = queues[0]
        for queue in queues[1:]:
            if _precedes(queue[-1], best[-1]):
                best = queue
        ordered.append(best.pop())
        queues = [queue for queue in queues if queue]
    return ordered


def _precedes(a: Said, b: Said) -> bool:
    """Tell whether a line was written before another, as far as can be known."""
    if a.at + a.line.precision <= b.at:
        return True
    if b.at + b.line.precision <= a.at:
        return False
    if max(a.line.precision, b.line.precision) < _CLOCK:
        return a.at < b.at
    return (a.rank, a.at) < (b.rank, b.at)


# Meaning


def _paths(ordered: Iterable[Said]) -> list[PathTried]:
    tried: dict[str, PathTried] = {}
    start: float | None = None
    for said in ordered:
        if start is None:
            start = said.at
        match = said.step and said.step.pattern.match(said.line.message)
        if said.step is None or not match or "attempt" not in match.groupdict():
            continue
        name = match["attempt"]
        path = tried.setdefault(name, PathTried(name))
        match said.step.name:
            case "trying":
                path.began = max(0.0, said.at - start)
            case "attempt failed":
                path.outcome, path.reason = "failed", match["reason"]
                path.seconds = float(match["seconds"])
            case "verified":
                path.outcome, path.seconds = "verified", float(match["seconds"])
            case "selected":
                path.outcome = "selected"
    return list(tried.values())


def _conclude(steps: dict[str, Said]) -> tuple[bool | None, str]:
    """Say how it ended, from the best witness that there is."""

    def group(step: str, name: str) -> str:
        said = steps[step]
        assert said.step is not None
        match = said.step.pattern.match(said.line.message)
        return "" if match is None else match[name].rstrip(".")

    if "connected" in steps:
        path, seconds = group("connected", "path"), group("connected", "seconds")
        return True, f"connected by {path} after {seconds} s"
    where = _where(steps)
    if "failed" in steps:
        return False, f"failed {where}: {group('failed', 'reason')}"
    if "reported" in steps:
        outcome = group("reported", "outcome")
        if outcome.startswith(("lan", "tcp", "udp", "relay,")):
            return True, f"connected, as the client told the mediator: {outcome}"
        return False, f"failed {where}, as the client told the mediator: {outcome}"
    if "opened" in steps:
        return True, "connected: the server opened the stream"
    if "answered" in steps and group("answered", "result") != "ok":
        return False, f"failed {where}: {group('answered', 'result')}"
    if "unanswered" in steps:
        return False, f"failed {where}: {group('unanswered', 'reason')}"
    return None, f"how it ended is not in these logs; the last that is known: {where}"


def _where(steps: dict[str, Said]) -> str:
    """Say at which step a session stood that came to nothing."""
    if "refused" in steps or "selected" in steps:
        return "opening the service, on a path that works"
    if "trying" in steps:
        return "reaching the server: no path led to it"
    introduced = steps.get("introduced") or steps.get("answered")
    if introduced is not None and introduced.step is not None:
        match = introduced.step.pattern.match(introduced.line.message)
        result = "" if match is None else match["result"]
        if result == "ok":
            return "between the introduction and the first path"
        if "announced" in steps and "told" not in steps:
            return "telling the server: nothing shows that it heard of the client"
        if "told" in steps and "confirmed" not in steps:
            return "confirming: the server's answer did not reach the mediator"
        return "asking the mediator"
    if "heard" in steps:
        return "answering: the client did not get the mediator's answer"
    return "asking the mediator: nothing shows that it heard of the client"
