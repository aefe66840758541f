"""Passwords: which are good enough, and what is kept of them.

What is kept is argon2id (:rfc:`9106`), which takes memory and time by design, so it
runs in threads, of which there are few, with a short queue in front: a flood of
sign-ins makes sign-ins slow, and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import argon2
from argon2.exceptions import InvalidHashError, VerificationError
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from zxcvbn import zxcvbn

from dwcloud.accounts.refusals import Refused

__all__ = [
    "MAX_PASSWORD",
    "MIN_PASSWORD",
    "PasswordThreads",
    "Passwords",
    "Threads",
    "check_password",
]

MIN_PASSWORD = 10
"""Characters a password has at least."""

MAX_PASSWORD = 200
"""Characters a password has at most."""

_LOOKED_AT = 16
"""Characters that are judged. What zxcvbn does grows exponentially with those that may
stand for letters: 50 ms for 16 of them at worst, 14 s for 72. Who begins by 16 that are
easily guessed is refused whatever follows."""
_LEAST_SCORE = 2
"""Of zxcvbn's scale: more than a million guesses."""

_estimating = threading.Lock()

ResultT = TypeVar("ResultT")


def check_password(password: str, *personal: str) -> None:
    """Make sure that a password is not among those that are guessed first.

    :param personal: words that are no secret with this account, such as its name.
    :raises Refused: 400, with what is wrong.
    """
    if len(password) < MIN_PASSWORD:
        raise Refused(
            400, "weak_password", f"A password has at least {MIN_PASSWORD} characters."
        )
    if len(password) > MAX_PASSWORD:
        raise Refused(
            400, "weak_password", f"A password has at most {MAX_PASSWORD} characters."
        )
    with _estimating:  # It keeps the personal words in a global table.
        estimate = zxcvbn(password[:_LOOKED_AT], [w for w in personal if w])
    if estimate["score"] < _LEAST_SCORE:
        feedback = estimate["feedback"]
        hints = [h for h in (feedback["warning"], *feedback["suggestions"]) if h]
        why = " ".join(hint.rstrip(".") + "." for hint in hints)
        raise Refused(
            400,
            "weak_password",
            f"This password is guessed easily. {why}".strip(),
        )


class Threads(Protocol):
    """Where slow work is done."""

    def run(self, work: Callable[[], ResultT]) -> Deferred[ResultT]:
        """Carry out ``work``; fails with :class:`Refused` if too much waits."""


class PasswordThreads:
    """A few threads and a bounded queue.

    :param waiting: pieces of work at a time that are not done; more are refused.
    """

    def __init__(self, reactor: Any, *, threads: int = 2, waiting: int = 64) -> None:
        self._reactor = reactor
        self._waiting = waiting
        self._pending = 0
        self._pool = ThreadPool(0, threads, "passwords")

    def start(self) -> None:
        """Take work from now on."""
        self._pool.start()

    def stop(self) -> None:
        """Finish what has been begun."""
        self._pool.stop()

    def run(self, work: Callable[[], ResultT]) -> Deferred[ResultT]:
        """See :meth:`Threads.run`."""
        if self._pending >= self._waiting:
            raise Refused(
                503,
                "busy",
                "Too many people are signing in at this moment; try again.",
                retry_after=2.0,
            )
        self._pending += 1
        done: Deferred[ResultT] = Deferred()
        running = deferToThreadPool(self._reactor, self._pool, work)
        running.addBoth(self._finished).addCallbacks(done.callback, done.errback)
        return done

    def _finished(self, result: Any) -> Any:
        self._pending -= 1
        return result


class Passwords:
    """Hashes passwords and checks them.

    :param threads: where that is done.
    :param parameters: what it costs; hashes made with others are renewed when their
        password comes by.
    """

    def __init__(
        self, threads: Threads, parameters: argon2.PasswordHasher | None = None
    ) -> None:
        self._threads = threads
        # One lane: the threads here make use of several processors already.
        self._hasher = parameters or argon2.PasswordHasher(
            time_cost=2, memory_cost=48 * 1024, parallelism=1
        )
        self._nobody = self._hasher.hash("the password of nobody")

    def hash(self, password: str, *personal: str) -> Deferred[str]:
        """Return what is kept of a new password.

        :param personal: see :func:`check_password`.
        :raises Refused: 400, if it is too weak; 503, if too much waits.
        """

        def work() -> str:
            check_password(password, *personal)
            kept: str = self._hasher.hash(password)
            return kept

        return self._threads.run(work)

    def hash_again(self, password: str) -> Deferred[str]:
        """Return what is kept of a password that is somebody's already.

        :raises Refused: 503, if too much waits.
        """

        def work() -> str:
            kept: str = self._hasher.hash(password)
            return kept

        return self._threads.run(work)

    def verify(self, kept: str | None, password: str) -> Deferred[bool]:
        """Tell whether a password is the one of which ``kept`` is kept.

        :param kept: None for an account that does not exist, which takes as long.
        :raises Refused: 503, if too much waits.
        """

        def work() -> bool:
            try:
                right: bool = self._hasher.verify(kept or self._nobody, password)
                return right
            except (VerificationError, InvalidHashError):
                return False

        return self._threads.run(work).addCallback(
            lambda result: result and kept is not None
        )

    def needs_renewal(self, kept: str) -> bool:
        """Tell whether a hash was made with other parameters than today's."""
        needed: bool = self._hasher.check_needs_rehash(kept)
        return needed
