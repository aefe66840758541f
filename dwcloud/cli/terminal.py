"""Questions to the person at the terminal."""

from __future__ import annotations

import contextlib
import os
import termios
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.cli.failures import CommandFailed

__all__ = ["Terminal"]

_MOST = 4096


class Terminal:
    """The terminal that a command was typed at.

    Not standard input and output: those may be files, or belong to somebody else.

    :param path: of the terminal.
    """

    def __init__(self, reactor: Any, path: str = "/dev/tty") -> None:
        self._reactor = reactor
        self._path = path

    @property
    def present(self) -> bool:
        """Whether somebody is there to be asked.

        A program that runs in the background, or whose input and messages both go
        elsewhere, has nobody to ask, though it has a terminal.
        """
        if not (os.isatty(0) or os.isatty(2)):
            return False
        try:
            terminal = os.open(self._path, os.O_RDWR | os.O_NOCTTY)
        except OSError:
            return False
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        except OSError:
            return False
        finally:
            os.close(terminal)

    async def ask(self, question: str, *, secret: bool = False) -> str:
        """Ask for one line.

        :param secret: whether it is not to be seen.
        :return: the line, without space around it unless it is secret.
        :raises CommandFailed: if the terminal is gone, or its input has ended.
        """
        try:
            terminal = os.open(self._path, os.O_RDWR | os.O_NOCTTY)
        except OSError as e:
            raise CommandFailed(f"no terminal to ask at: {e.strerror}") from None
        hidden = _unseen(terminal) if secret else contextlib.nullcontext()
        with os.fdopen(terminal, "r+b", buffering=0) as file, hidden:
            file.write(question.encode())
            reader = _LineReader(terminal)
            self._reactor.addReader(reader)
            try:
                line = await reader.line
            finally:
                self._reactor.removeReader(reader)
                if secret:
                    file.write(b"\n")
        return line if secret else line.strip()

    async def ask_yes(self, question: str) -> bool:
        """Ask for yes or no, until one of them is the answer."""
        while True:
            answer = (await self.ask(f"{question} [yes/no] ")).lower()
            if answer in ("y", "yes", "n", "no"):
                return answer.startswith("y")

    async def ask_new_password(self, question: str = "Password: ") -> str:
        """Ask for a new password, twice."""
        prefix = ""
        while True:
            password = await self.ask(prefix + question, secret=True)
            if password == await self.ask("Once more: ", secret=True):
                return password
            prefix = "These are different; try again.\n"


@contextlib.contextmanager
def _unseen(terminal: int) -> Iterator[None]:
    """Show nothing of what is typed; as before at the end, however that comes."""
    before = termios.tcgetattr(terminal)
    after = [*before]
    after[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSAFLUSH, after)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


@implementer(IReadDescriptor)
class _LineReader:
    """Reads a line when there is one.

    :ivar line: fires with it.
    """

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._data = b""
        self.line: Deferred[str] = Deferred()

    def fileno(self) -> int:
        """Of the terminal."""
        return self._terminal

    def logPrefix(self) -> str:
        """For Twisted's log."""
        return "terminal"

    def doRead(self) -> None:
        """Something was typed."""
        try:
            data = os.read(self._terminal, _MOST)
        except OSError as e:
            self._end(Failure(CommandFailed(f"the terminal is gone: {e.strerror}")))
            return
        self._data += data
        if b"\n" in self._data or len(self._data) > _MOST:
            line, _, _ = self._data.partition(b"\n")
            try:
                text = line.decode()
            except UnicodeDecodeError:
                self._end(Failure(CommandFailed("what was typed is not UTF-8")))
                return
            self._end(text.rstrip("\r"))
        elif not data:
            self._end(Failure(CommandFailed("the input has ended without an answer")))

    def connectionLost(self, reason: Failure) -> None:
        """The reactor gives up reading."""
        self._end(Failure(CommandFailed("the terminal is gone")))

    def _end(self, result: str | Failure) -> None:
        if not self.line.called:
            self.line.callback(result)
