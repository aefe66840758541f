"""Questions at a terminal, which is a pseudo-terminal here."""

from __future__ import annotations

import os
import select
import termios
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dwcloud.cli.failures import CommandFailed
from dwcloud.cli.terminal import Terminal


class Readers:
    """The part of a reactor that knows who wants to read."""

    def __init__(self) -> None:
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        verifyObject(IReadDescriptor, reader)
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)

    def read(self) -> None:
        """Let those read for whom there is something."""
        for reader in [*self.readers]:
            if select.select([reader.fileno()], [], [], 0)[0]:
                reader.doRead()


class TerminalTests(SynchronousTestCase):
    """What is asked, seen and answered."""

    def setUp(self) -> None:
        """Have a terminal with a person at it."""
        self.person, self.side = os.openpty()
        self.addCleanup(self.hang_up)
        self.reactor = Readers()
        self.terminal = Terminal(self.reactor, os.ttyname(self.side))

    def hang_up(self) -> None:
        """Close both sides."""
        for each in (self.person, self.side):
            if each >= 0:
                os.close(each)

    def type(self, text: bytes) -> None:
        """Type, and let the program read."""
        os.write(self.person, text)
        self.reactor.read()

    def seen(self) -> bytes:
        """What the person sees since the last time."""
        data = b""
        while select.select([self.person], [], [], 0)[0]:
            data += os.read(self.person, 1000)
        return data.replace(b"\r\n", b"\n")

    def echoes(self) -> bool:
        """Whether what is typed is seen."""
        return bool(termios.tcgetattr(self.side)[3] & termios.ECHO)

    def ask(self, question: str, **options: Any) -> Deferred[str]:
        """Begin to ask."""
        return Deferred.fromCoroutine(self.terminal.ask(question, **options))

    def test_answer(self) -> None:
        """A line is an answer, and not before it is whole."""
        asking = self.ask("Name: ")
        self.assertEqual(self.seen(), b"Name: ")
        self.type(b" an")
        self.assertNoResult(asking)
        self.type(b"na \n")
        self.assertEqual(self.successResultOf(asking), "anna")
        self.assertEqual(self.reactor.readers, [])

    def test_secret(self) -> None:
        """A secret is not seen, spaces belong to it, and the terminal is as before."""
        asking = self.ask("Password: ", secret=True)
        self.assertFalse(self.echoes())
        self.type(b" hush \n")
        self.assertEqual(self.successResultOf(asking), " hush ")
        self.assertEqual(self.seen(), b"Password: \n")
        self.assertTrue(self.echoes())

    def test_cancelled(self) -> None:
        """Who interrupts the question gets the terminal back as it was."""
        asking = self.ask("Password: ", secret=True)
        asking.cancel()
        self.failureResultOf(asking)
        self.assertTrue(self.echoes())
        self.assertEqual(self.reactor.readers, [])

    def test_end_of_input(self) -> None:
        """Control-D is no answer."""
        asking = self.ask("Name: ")
        self.type(b"\x04")
        self.failureResultOf(asking, CommandFailed)

    def test_not_text(self) -> None:
        """What is no text is no answer."""
        asking = self.ask("Name: ")
        self.type(b"\xff\n")
        self.failureResultOf(asking, CommandFailed)

    def test_yes_or_no(self) -> None:
        """Only these two are answers."""
        asking = Deferred.fromCoroutine(self.terminal.ask_yes("Really?"))
        self.type(b"perhaps\n")
        self.assertNoResult(asking)
        self.type(b"Yes\n")
        self.assertTrue(self.successResultOf(asking))

    def test_new_password(self) -> None:
        """It is asked twice, until both are the same."""
        asking = Deferred.fromCoroutine(self.terminal.ask_new_password())
        for text in (b"a\n", b"b\n", b"c\n"):
            self.type(text)
            self.assertNoResult(asking)
        self.type(b"c\n")
        self.assertEqual(self.successResultOf(asking), "c")
        self.assertIn(b"different", self.seen())

    def test_no_terminal(self) -> None:
        """Without one there is nobody to ask."""
        terminal = Terminal(self.reactor, "/nonexistent/tty")
        self.assertFalse(terminal.present)
        asking = Deferred.fromCoroutine(terminal.ask("Name: "))
        self.failureResultOf(asking, CommandFailed)

    def test_terminal_of_others(self) -> None:
        """One that this process is not in the foreground of is not asked at."""
        self.assertFalse(self.terminal.present)
