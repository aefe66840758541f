"""Finding the lines of one connect session in logs, whoever wrote them and how.

Read are what ``twistd`` and ``dwcloud --verbose`` write, as text or as JSON, also with
something in front of each line, as ``journalctl`` and containers put it there; and what
Twisted's own ``jsonFileLogObserver`` writes.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import attrs
from twisted.logger import eventFromJSON, formatEvent

from dwcloud.cli.failures import CommandFailed

__all__ = ["LogLine", "parse_line", "read_logs"]

_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TEXT = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?P<fraction>\.\d+)?(?:[+-]\d{4}|Z)) "
    r"\[(?P<logger>[^\]#]*)(?:#[a-z]+)?\] (?P<message>.*)"
)
_SERVER_MODULES = frozenset(
    {
        "acceptor",
        "mediator_link",
        "punching",
        "relay_pool",
        "responders",
        "server",
        "server_holes",
    }
)


@attrs.frozen(kw_only=True)
class LogLine:
    """One line about a session.

    :ivar program: ``client``, ``server``, ``mediator``, ``relay`` or ``other``.
    :ivar time: when it was written, seconds since 1970 of that machine's clock.
    :ivar precision: seconds within which that is known.
    :ivar message: without what all lines of the session begin with.
    :ivar source: name of the file.
    :ivar number: of the line in it.
    """

    program: str
    time: float
    precision: float
    message: str
    source: str = ""
    number: int = 0


def read_logs(names: Iterable[str], wanted: str) -> tuple[str, list[list[LogLine]]]:
    """Return the id of a session and what each file says of it, in the file's order.

    :param names: of files, ``-`` for standard input; those that end in ``.gz`` are
        compressed.
    :param wanted: the id, or its beginning.
    :raises CommandFailed: if a file cannot be read, if nothing is said of the session,
        or if several ones begin so.
    """
    found: set[str] = set()
    logs: list[list[LogLine]] = []
    total = 0
    for name in names:
        lines: list[LogLine] = []
        try:
            with _opened(name) as stream:
                for number, text in enumerate(stream, 1):
                    total += 1
                    ids = _ids_in(text, wanted)
                    line = parse_line(text, ids[0]) if ids else None
                    if line is not None:
                        found.add(ids[0])
                        lines.append(attrs.evolve(line, source=name, number=number))
        except OSError as e:
            raise CommandFailed(f"{name}: {e.strerror or e}") from e
        logs.append(lines)
    if not found:
        raise CommandFailed(
            f"none of {total} lines is about a connect session {wanted}; clients and "
            "servers log what is needed with --verbose"
        )
    if len(found) > 1:
        raise CommandFailed(
            f"several sessions begin with {wanted}: {', '.join(sorted(found))}"
        )
    return found.pop(), logs


def _opened(name: str) -> IO[str]:
    if name == "-":
        return open(sys.stdin.fileno(), errors="replace", closefd=False)
    if name.endswith(".gz"):
        return gzip.open(name, "rt", encoding="utf-8", errors="replace")
    return Path(name).open(encoding="utf-8", errors="replace")


def _ids_in(text: str, wanted: str) -> list[str]:
    return [guid for guid in _GUID.findall(text.lower()) if guid.startswith(wanted)]


def parse_line(text: str, session: str) -> LogLine | None:
    """Read a line that contains the id of a session.

    :return: None if it is no line of a log, or about something else.
    """
    brace = text.find("{")
    match = _TEXT.search(text)
    if match is None or 0 <= brace < match.start():
        return _parse_json(text[brace:], session) if brace >= 0 else None
    message = _about(match["message"], session)
    if message is None:
        return None
    fraction = match["fraction"]
    return LogLine(
        program=_program(match["logger"]),
        time=datetime.fromisoformat(match["time"]).timestamp(),
        precision=10.0 ** (1 - len(fraction)) if fraction else 1.0,
        message=message,
    )


def _about(message: str, session: str) -> str | None:
    _, found, rest = message.partition(f"session {session}: ")
    return rest.rstrip() if found else None


def _parse_json(text: str, session: str) -> LogLine | None:
    try:
        event = json.loads(text)
        if not isinstance(event, dict):
            return None
        if "log_time" in event:
            return _parse_twisted(text, session)
        message = _about(event["message"], session)
        if message is None:
            return None
        return LogLine(
            program=_program(str(event.get("logger", ""))),
            time=datetime.fromisoformat(event["time"]).timestamp(),
            precision=1e-6,
            message=message,
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None


def _parse_twisted(text: str, session: str) -> LogLine | None:
    event: dict[str, Any] = eventFromJSON(text)
    message = _about(formatEvent(event), session)
    if message is None:
        return None
    return LogLine(
        program=_program(str(event.get("log_namespace", ""))),
        time=float(event["log_time"]),
        precision=1e-6,
        message=message,
    )


def _program(logger: str) -> str:
    package, module = [*logger.split("."), "", "", ""][1:3]
    if not logger.startswith("dwcloud."):
        return "other"
    if package in ("mediator", "relay"):
        return package
    if package == "peer":
        return "server" if module in _SERVER_MODULES else "client"
    return "other"
