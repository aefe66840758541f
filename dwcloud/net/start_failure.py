"""Ending ``twistd`` with one line instead of a traceback when a start fails."""

from __future__ import annotations

import contextlib
import os
from typing import NoReturn

from twisted.python import usage

__all__ = ["exit_twistd"]


def exit_twistd(options: usage.Options, message: str) -> NoReturn:
    """Exit with status 1 and ``message`` on standard error.

    Call it while the application starts. twistd has written its process id file by
    then and would leave it behind.

    :param options: of the service, below twistd's own.
    """
    pid_file = (getattr(options, "parent", None) or {}).get("pidfile")
    if pid_file:
        with contextlib.suppress(OSError):
            os.remove(pid_file)
    raise SystemExit(message)
