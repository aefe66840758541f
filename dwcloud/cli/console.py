"""What commands print: lines and JSON on standard output and standard error."""

from __future__ import annotations

import json
import os
import select
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

__all__ = ["Console"]


class Console:
    """Standard output for results, standard error for everything about them.

    Lines are written whole and at once, also when a program that shares the terminal
    has made it non-blocking. A reader that went away is not an error of ours.

    :param out: file descriptor of results.
    :param err: file descriptor of messages; where they cannot be written there is
        nobody to tell.
    :ivar lost: why results cannot be written any more, None while they can. The
        command is to end then, and fails.
    :ivar on_lost: called once when that happens.
    """

    lost: str | None = None
    on_lost: Callable[[], object] | None = None

    def __init__(self, out: int = 1, err: int = 2) -> None:
        self._out = out
        self._err = err

    @property
    def interactive(self) -> bool:
        """Whether a person looks at the messages as they come."""
        return os.isatty(self._err)

    @property
    def decorated(self) -> bool:
        """Whether a person looks at the result, who wants it in bold and colour."""
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return os.isatty(self._out) and not plain

    def line(self, text: str = "") -> None:
        """Print a line of the result."""
        if self.lost is not None:
            return
        try:
            _write(self._out, text + "\n")
        except OSError as e:
            self.lost = e.strerror or str(e)
            if self.on_lost is not None:
                self.on_lost()

    def message(self, text: str) -> None:
        """Print a line about what is going on."""
        self.draw(text + "\n")

    def draw(self, text: str) -> None:
        """Print ``text`` as it is where messages go; for redrawing a line."""
        with suppress(OSError):
            _write(self._err, text)

    def result_event(self, event: Mapping[str, Any]) -> None:
        """Print an event as one line of JSON, as a result."""
        self.line(json.dumps(event))

    def message_event(self, event: Mapping[str, Any]) -> None:
        """Print an event as one line of JSON, as a message."""
        self.message(json.dumps(event))


def _write(descriptor: int, text: str) -> None:
    data = memoryview(text.encode("utf-8", "backslashreplace"))
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            select.select([], [descriptor], [])
        except BrokenPipeError:
            return
