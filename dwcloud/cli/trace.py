"""``dwcloud trace``: what the logs of all parties say of one connection."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import attrs

from dwcloud.cli.command import CommandOptions, require
from dwcloud.cli.console import Console
from dwcloud.cli.log_reading import read_logs
from dwcloud.cli.options import value_of
from dwcloud.cli.session_story import PathTried, Said, Story, tell_story
from dwcloud.cli.table import render_table

__all__ = ["TraceCommand", "read_session"]

_SHORTEST = 8


def read_session(text: str) -> str:
    """Read the id of a connect session, or its first eight or more characters.

    :raises ValueError: if it is neither.
    """
    lower = text.lower()
    whole = "00000000-0000-0000-0000-000000000000"
    fits = len(lower) <= len(whole) and all(
        (char == "-") if whole[place] == "-" else char in "0123456789abcdef"
        for place, char in enumerate(lower)
    )
    if not fits or len(lower) < _SHORTEST:
        raise ValueError(
            f"{text!r} is not the id of a connect session, nor its first {_SHORTEST} "
            "or more characters"
        )
    return lower


class TraceCommand(CommandOptions):
    """``dwcloud trace``."""

    command = "dwcloud trace"
    synopsis = "ID LOGFILE... [--json]"
    longdesc = (
        "Put together what logs say of the connect session ID: who said what, which "
        "paths were tried and how long that took, and where it failed. Any logs may "
        "be given, of client, server, mediator and relay, as text or as JSON; - is "
        "standard input. Clients name the ID when a connection fails, and with --json. "
        "The exit code is 0 if there was a connection."
    )
    examples = (
        "  dwcloud forward PEER 8080:web --mediator HOST --verbose 2> client.log\n"
        "  dwcloud trace ID client.log server.log mediator.log relay.log\n"
        "  journalctl -u dwcloud-mediator | dwcloud trace ID client.log -\n"
    )
    optFlags = [["json", None, "Print one line of JSON instead."]]
    session = ""
    files: tuple[str, ...] = ()

    def parseArgs(self, *words: str) -> None:
        """Take the id and the files."""
        require(len(words) >= 2, "expected ID LOGFILE...")
        self.session = value_of("ID", read_session)(words[0])
        self.files = words[1:]
        require(self.files.count("-") <= 1, "standard input can be read only once")

    def run(self, console: Console) -> int:
        """Read, and print what there is."""
        story = tell_story(*read_logs(self.files, self.session))
        if self["json"]:
            console.result_event(_as_dict(story))
        else:
            for line in _page(story):
                console.line(line)
        return 0 if story.succeeded else 1


def _as_dict(story: Story) -> dict[str, Any]:
    return {
        "connect_session_id": story.session,
        "succeeded": story.succeeded,
        "conclusion": story.conclusion,
        "clock_shifts": {p: round(s, 3) for p, s in story.shifts.items()},
        "silent": list(story.silent),
        "paths": [attrs.asdict(path) for path in story.paths],
        "lines": [
            {
                "program": said.line.program,
                "time": round(said.at, 6),
                "precision": said.line.precision,
                "step": None if said.step is None else said.step.name,
                "message": said.line.message,
                "source": said.line.source,
                "number": said.line.number,
            }
            for said in story.said
        ],
    }


def _page(story: Story) -> list[str]:
    first = story.said[0].at
    day = datetime.fromtimestamp(first).astimezone().strftime("%Y-%m-%d, UTC%z")
    rows = [
        [_clock(said), _after(said, first), said.line.program, said.line.message]
        for said in story.said
    ]
    lines = [f"connect session {story.session} ({day})", ""]
    lines += render_table(["time", "after", "who", "what"], rows, right=[1])
    if story.paths:
        lines += ["", *_path_table(story.paths)]
    notes = [
        f"the clock of the {program} differs: {shift:+.3g} s were added to its times"
        for program, shift in story.shifts.items()
    ]
    if story.silent:
        notes.append(f"no line of: {', '.join(story.silent)}")
    return [*lines, "", *notes, f"result: {story.conclusion}"]


def _clock(said: Said) -> str:
    moment = datetime.fromtimestamp(said.at)
    if said.line.precision >= 1.0:
        return moment.strftime("%H:%M:%S")
    return moment.strftime("%H:%M:%S.%f")[:-3]


def _after(said: Said, first: float) -> str:
    seconds = said.at - first
    if said.line.precision >= 1.0:
        return f"{max(0.0, seconds):.0f} s"
    return f"{seconds:.3f} s"


def _path_table(paths: tuple[PathTried, ...]) -> list[str]:
    rows = [
        [
            path.attempt,
            "" if path.began is None else f"{path.began:.3f} s",
            "" if path.seconds is None else f"{path.seconds:.3f} s",
            path.outcome,
            re.sub(r"\s+", " ", path.reason),
        ]
        for path in paths
    ]
    return render_table(["path", "tried at", "took", "outcome", "why"], rows, [1, 2])
