"""Ending ``twistd`` with one line instead of a traceback when a start fails."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from typing import Any, NoReturn

from twisted.internet.error import ReactorNotRunning
from twisted.python import usage

__all__ = ["exit_twistd", "stop_twistd"]

_SHOWN_BYTES = 98
"""What twistd shows of a daemon's message."""


def exit_twistd(options: usage.Options, message: str) -> NoReturn:
    """Exit with status 1 and ``message`` on standard error.

    Call it while the application starts. twistd has written its process id file by
    then and would leave it behind.

    :param options: of the service, below twistd's own.
    """
    of_twistd = getattr(options, "parent", None) or {}
    pid_file, status_pipe = of_twistd.get("pidfile"), of_twistd.get("statusPipe")
    if status_pipe is not None:
        # The process that the shell waits for reads how the daemon's start went.
        os.write(status_pipe, b"1 " + message.encode()[:_SHOWN_BYTES])
        os.close(status_pipe)
    if pid_file:
        with contextlib.suppress(OSError):
            os.remove(pid_file)
    raise SystemExit(message)


def stop_twistd(reactor: Any) -> None:
    """Stop the program in order, which is to end with status 1 then.

    For failures while the reactor runs, of which the log has told; ``twistd`` knows no
    other status than 0 for those.
    """
    try:
        reactor.stop()
    except ReactorNotRunning:
        return  # it is stopping already, for the first of the reasons
    atexit.register(_exit_with_failure)


def _exit_with_failure() -> None:
    for stream in (sys.stdout, sys.stderr):
        # A daemon has closed them.
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(1)
