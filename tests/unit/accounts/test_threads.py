"""Slow work beside the reactor, of which there is not too much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.accounts.passwords import PasswordThreads
from dwcloud.accounts.refusals import Refused


class Reactor:
    """Carries out at once what threads have for it."""

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        function(*args)


class Pool:
    """Threads that a test runs."""

    def __init__(self) -> None:
        self.work: list[Any] = []

    def callInThreadWithCallback(
        self, on_result: Any, function: Any, *args: Any, **named: Any
    ) -> None:
        self.work.append((on_result, function, args, named))

    def run_one(self) -> None:
        """Do the oldest piece of work."""
        on_result, function, args, named = self.work.pop(0)
        on_result(True, function(*args, **named))


class PasswordThreadsTests(SynchronousTestCase):
    """A bounded queue in front of threads."""

    def setUp(self) -> None:
        self.pool = Pool()
        self.threads = PasswordThreads(Reactor(), waiting=3)
        self.threads._pool = self.pool  # type: ignore[assignment]

    def run_(self, result: int) -> Deferred[int]:
        return self.threads.run(lambda: result)

    def test_queue(self) -> None:
        """What is too much is refused at once, until something is done."""
        waiting = [self.run_(number) for number in range(3)]
        error = self.assertRaises(Refused, self.run_, 3)
        self.assertEqual((error.status, error.code), (503, "busy"))
        self.pool.run_one()
        self.assertEqual(self.successResultOf(waiting[0]), 0)
        waiting.append(self.run_(4))
        self.assertRaises(Refused, self.run_, 5)
        while self.pool.work:
            self.pool.run_one()
        self.assertEqual([self.successResultOf(w) for w in waiting[1:]], [1, 2, 4])

    def test_failure(self) -> None:
        """Work that fails leaves its place, and so does work nobody waits for."""

        def fail() -> int:
            raise ZeroDivisionError

        failing = self.threads.run(fail)
        on_result, function, args, named = self.pool.work.pop()
        try:
            function(*args, **named)
        except ZeroDivisionError:
            on_result(False, Failure())
        self.failureResultOf(failing, ZeroDivisionError)
        given_up = self.run_(1)
        given_up.cancel()
        self.failureResultOf(given_up)
        self.pool.run_one()
        for number in range(3):
            self.run_(number)
        self.assertRaises(Refused, self.run_, 3)
