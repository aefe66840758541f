"""Runs a command at a terminal of its own, and answers what it asks there.

Runs with a bare Python too::

    python3 tests/at_terminal.py 'Account: ' anna 'Password: ' secret -- dwcloud ...

The pairs before ``--`` are ends of questions and their answers, in order. What the
terminal shows goes to standard output; the exit status is the command's, or 99 if it
ended before it had asked everything.
"""

from __future__ import annotations

import os
import pty
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["SCRIPT", "UNASKED", "run"]

SCRIPT = str(Path(__file__).resolve())
UNASKED = 99


def run(answers: Sequence[tuple[bytes, bytes]], command: Sequence[str]) -> int:
    """Run ``command`` to its end; return the exit status."""
    left = [*answers]
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(command[0], [*command])
    signal.signal(signal.SIGTERM, lambda number, _: os.kill(child, number))
    seen = b""
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:
            # Nobody has the other side open any more.
            break
        if not data:
            break
        os.write(1, data)
        seen += data
        if left and left[0][0] in seen:
            question, answer = left.pop(0)
            seen = seen.partition(question)[2]
            os.write(terminal, answer + b"\n")
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return UNASKED if left and not code else code


def main(words: Sequence[str]) -> int:
    """Read the command line, and run the command in it."""
    split = words.index("--")
    texts = [word.encode() for word in words[:split]]
    pairs = list(zip(texts[::2], texts[1::2], strict=True))
    return run(pairs, words[split + 1 :])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
