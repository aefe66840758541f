"""The entry point of ``dwcloud``.

It sets right what the process was started with, before anything else is imported:
loading a command takes long enough to be interrupted, and opens files.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence

__all__ = ["die_of_interrupts", "main", "open_closed_standard_streams"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    :param argv: the words after the program's name; ``sys.argv`` without it.
    :return: the exit code, see :func:`dwcloud.cli.commands.run_command_line`.
    """
    open_closed_standard_streams()
    die_of_interrupts()
    from dwcloud.cli.commands import run_command_line

    return run_command_line(sys.argv[1:] if argv is None else argv)


def open_closed_standard_streams() -> None:
    """Open ``/dev/null`` on each standard descriptor that the process came without.

    Otherwise the next file or socket would get the number, and what is meant for a
    person would go there.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError as e:
            if e.errno != errno.EBADF:
                raise
            # The lowest free number is taken, and those below are open by now.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    # Python has no files for what was closed when it started.
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def die_of_interrupts() -> None:
    """Let an interrupt end the process at once, until a command handles it.

    Python's own way is an exception, whose traceback is of no use to who pressed the
    keys. A process that was started to ignore interrupts goes on ignoring them.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
