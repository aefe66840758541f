"""A second signal to a program that is stopping already."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from typing import Any

__all__ = ["act_on_next_signal"]


def act_on_next_signal(reactor: Any, act: Callable[[], None]) -> None:
    """Call ``act`` in the reactor on SIGINT and SIGTERM from now on.

    For a program that takes its time to stop; Twisted itself can be told to stop only
    once. Does nothing outside the main thread, which gets no signals.
    """

    def caught(number: int, frame: object) -> None:
        reactor.callFromThread(act)

    with contextlib.suppress(ValueError):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, caught)
