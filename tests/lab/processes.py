"""Child processes of the lab, with what they print kept for whoever has to explain."""

from __future__ import annotations

import pathlib
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

__all__ = ["PATIENCE", "LabError", "Process", "wait_for"]

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds for what comes at once, on a machine with much else to do."""

_TAIL = 6000
"""Characters of a program's output that an error message shows."""


class LabError(AssertionError):
    """A program of the lab did not do what the test relies on."""


def wait_for(what: str, look: Callable[[], T | None], limit: float = PATIENCE) -> T:
    """Call ``look`` until it returns something; return that.

    :param what: what is waited for, for the message.
    :param limit: seconds.
    :raises LabError: if it does not come in time.
    """
    end = time.monotonic() + limit
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise LabError(f"{what}: not within {limit:g} s")
        time.sleep(0.03)


class Process:
    """A program that runs until it is ended.

    :param name: in messages, and of the files that keep its output.
    :param directory: where it runs; the output goes to ``logs`` beside it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        directory: pathlib.Path,
        environment: Mapping[str, str],
        logs: pathlib.Path,
    ) -> None:
        self.name = name
        self._out = logs / f"{name}.out"
        self._err = logs / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._child = subprocess.Popen(
                list(command),
                cwd=directory,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """Its status, None while it runs."""
        return self._child.poll()

    @property
    def stdout(self) -> str:
        """What it printed so far."""
        return self._out.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        """What it complained about so far."""
        return self._err.read_text(errors="replace")

    def lines(self) -> list[str]:
        """Return the whole lines it printed so far, on both streams."""
        return [
            line.rstrip("\n")
            for text in (self.stdout, self.stderr)
            for line in text.splitlines(keepends=True)
            if line.endswith("\n")
        ]

    def wait_for_line(
        self, what: str, read: Callable[[str], T | None], limit: float = PATIENCE
    ) -> T:
        """Wait until ``read`` makes something of a line; return that.

        :raises LabError: if no line does in time, or if the program ends before.
        """

        def look() -> T | None:
            ended = self._child.poll()
            for line in self.lines():
                found = read(line)
                if found:
                    return found
            if ended is not None:
                raise LabError(f"{what}: {self.name} ended with {ended}")
            return None

        return wait_for(f"{what} of {self.name}", look, limit)

    def wait(self, limit: float = PATIENCE) -> int:
        """Wait until it ends by itself; return its status."""
        try:
            return self._child.wait(limit)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} did not end within {limit:g} s") from None

    def end(self, limit: float = PATIENCE) -> int:
        """Ask it to end, then make it; return its status."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(limit)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        return self._child.returncode

    def account(self) -> str:
        """Return the end of what it printed, with its name."""
        status = self._child.poll()
        state = "running" if status is None else f"ended with {status}"
        parts = [f"--- {self.name}, {state}"]
        parts += [text[-_TAIL:].rstrip() for text in (self.stdout, self.stderr) if text]
        return "\n".join(parts)
