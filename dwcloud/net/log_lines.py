"""Logs in JSON, one object a line, for programs that collect or read logs."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO, Any

from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    eventAsText,
    textFileLogObserver,
)
from twisted.python import usage
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile

__all__ = ["LOG_FORMATS", "LogOptions", "json_line", "log_observer", "use_log_format"]

LOG_FORMATS = ("text", "json")

_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%f%z"
_LEGACY_FIELDS = frozenset(
    ("format", "isError", "message", "printed", "system", "time", "why", "failure")
)
_SIMPLE = (str, int, float, bool, type(None))


def log_observer(stream: IO[Any], log_format: str) -> ILogObserver:
    """Return an observer that writes to ``stream``, with fractions of seconds.

    :param log_format: one of :data:`LOG_FORMATS`.
    """
    if log_format == "json":
        return FileLogObserver(stream, json_line)
    return textFileLogObserver(stream, timeFormat=_TIME_FORMAT)


def json_line(event: LogEvent) -> str | None:
    """Return an event as a line of JSON.

    :return: an object with ``time`` (ISO 8601, UTC), ``level``, ``logger``,
        ``message``, tracebacks included, and the event's own fields as far as they are
        plain values; None for an event without text.
    """
    text = eventAsText(event, includeTimestamp=False, includeSystem=False)
    if not text:
        return None
    level = event.get("log_level")
    fields = {
        name: value
        for name, value in event.items()
        if not name.startswith("log_")
        and name not in _LEGACY_FIELDS
        and _is_plain(value)
    }
    line = {
        **fields,
        "time": datetime.fromtimestamp(event["log_time"], UTC).isoformat(
            timespec="microseconds"
        ),
        "level": "info" if level is None else level.name,
        "logger": event.get("log_namespace", event.get("system", "")),
        "message": text,
    }
    return json.dumps(line) + "\n"


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(isinstance(each, _SIMPLE) for each in value)
    if isinstance(value, dict):
        return all(
            isinstance(key, str) and isinstance(each, _SIMPLE)
            for key, each in value.items()
        )
    return isinstance(value, _SIMPLE)


class LogOptions(usage.Options):
    """The option of a service that says in which form ``twistd`` logs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["log-format"] = None

    def opt_log_format(self, text: str) -> None:
        """Write the log as text or as json, one object a line; both with fractions
        of seconds. [default: what twistd writes]"""
        if text not in LOG_FORMATS:
            raise usage.UsageError(
                f"--log-format: {text!r} is not one of {', '.join(LOG_FORMATS)}"
            )
        of_twistd = getattr(self, "parent", None) or {}
        for other in ("syslog", "logger"):
            if of_twistd.get(other):
                raise usage.UsageError(
                    f"--log-format and twistd's --{other} exclude each other"
                )
        self["log-format"] = text


def use_log_format(options: LogOptions, application: Componentized) -> None:
    """Let ``twistd`` log as the options say, to where it would log anyhow.

    Call it when the service is given to its application, as ``twistd`` begins to log
    right after that.
    """
    if options["log-format"] is None:
        return
    stream = _log_stream(getattr(options, "parent", None) or {})
    application.setComponent(ILogObserver, log_observer(stream, options["log-format"]))


def _log_stream(of_twistd: Mapping[str, Any]) -> IO[Any]:
    name = of_twistd.get("logfile")
    if name == "-" or (of_twistd.get("nodaemon") and not name):
        if not of_twistd.get("nodaemon"):
            raise SystemExit("a daemon cannot log to standard output: use --logfile")
        return sys.stdout
    log_file: Any = LogFile.fromFullPath(name or "twistd.log")
    if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        # As twistd does for its own log.
        def rotate(number: int, frame: object) -> None:
            from twisted.internet import reactor

            reactor.callFromThread(log_file.rotate)  # type: ignore[attr-defined]

        signal.signal(signal.SIGUSR1, rotate)
    return log_file  # type: ignore[no-any-return]
