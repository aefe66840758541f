"""Lines on standard output and standard error."""

from __future__ import annotations

import json
import os

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.cli.console import Console


class ConsoleTests(SynchronousTestCase):
    """A console on two pipes."""

    def setUp(self) -> None:
        """Make the pipes."""
        self.out, out = os.pipe()
        self.err, err = os.pipe()
        for descriptor in (self.out, self.err):
            self.addCleanup(os.close, descriptor)
        self.writing_ends = [out, err]
        self.addCleanup(lambda: [os.close(fd) for fd in self.writing_ends])
        self.console = Console(out, err)

    def test_streams(self) -> None:
        """Results and messages do not mix."""
        self.console.line("result")
        self.console.message("message")
        self.assertEqual(os.read(self.out, 100), b"result\n")
        self.assertEqual(os.read(self.err, 100), b"message\n")

    def test_events(self) -> None:
        """An event is one line of JSON."""
        self.console.result_event({"event": "online", "relays": []})
        self.console.message_event({"event": "failed", "error": "a\nb"})
        for descriptor, name in ((self.out, "online"), (self.err, "failed")):
            text = os.read(descriptor, 1000).decode()
            self.assertEqual(text.count("\n"), 1)
            self.assertEqual(json.loads(text)["event"], name)

    def test_not_a_terminal(self) -> None:
        """A pipe is nobody who looks."""
        self.assertFalse(self.console.interactive)

    def test_decorated(self) -> None:
        """Colour is for terminals, and for who has not asked to do without."""
        self.assertFalse(self.console.decorated)
        ours, theirs = os.openpty()
        for descriptor in (ours, theirs):
            self.addCleanup(os.close, descriptor)
        console = Console(theirs, theirs)
        for variable, value, decorated in (
            ("TERM", "xterm", True),
            ("NO_COLOR", "1", False),
            ("NO_COLOR", "", True),
            ("TERM", "dumb", False),
        ):
            self.patch(os, "environ", {**os.environ, variable: value})
            self.assertIs(console.decorated, decorated, variable)

    def test_odd_characters(self) -> None:
        """What cannot be encoded is spelled out."""
        self.console.line("a\udcffb")
        self.assertEqual(os.read(self.out, 100), b"a\\udcffb\n")

    def test_reader_gone(self) -> None:
        """Writing to nobody is no error."""
        reading, writing = os.pipe()
        os.close(reading)
        self.addCleanup(os.close, writing)
        Console(writing, writing).line("nobody hears this")

    def test_results_lost(self) -> None:
        """What cannot be written is told once, and is no exception where it is."""
        full = os.open("/dev/full", os.O_WRONLY)
        self.addCleanup(os.close, full)
        console = Console(full, self.writing_ends[1])
        calls: list[str | None] = []
        console.on_lost = lambda: calls.append(console.lost)
        console.line("one")
        console.result_event({"event": "two"})
        self.assertEqual(calls, ["No space left on device"])
        console.message("still heard")
        self.assertEqual(os.read(self.err, 100), b"still heard\n")

    def test_messages_lost(self) -> None:
        """Where messages cannot be written there is nobody to tell."""
        full = os.open("/dev/full", os.O_WRONLY)
        self.addCleanup(os.close, full)
        console = Console(self.writing_ends[0], full)
        console.message("one")
        console.draw("two")
        self.assertIsNone(console.lost)
