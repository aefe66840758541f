"""Waiting until nothing goes on in the real reactor any more."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import deferLater
from twisted.internet.tcp import Connection

__all__ = ["become_quiet"]

_LIMIT = 60.0
"""Seconds; after that trial tells what is left."""


async def become_quiet(reactor: Any) -> None:
    """Let connections, timers and look-ups of names come to their end.

    For the very last clean-up of a test: where one end has stopped, the other one may
    still take leave by a connection of its own.
    """
    end = reactor.seconds() + _LIMIT
    while _is_busy(reactor, end) and reactor.seconds() < end:
        await deferLater(reactor, 0.02)


def _is_busy(reactor: Any, end: float) -> bool:
    threads = reactor.getThreadPool()
    # In this order: what a thread has found is in the queue when it does no more.
    if threads.working or threads._queue.qsize() or reactor.threadCallQueue:
        return True
    every = {*reactor.getReaders(), *reactor.getWriters()}
    connected = any(isinstance(each, Connection) for each in every)
    # Trial limits each clean-up, this one too, by a timer that is due later.
    return connected or any(t.getTime() < end for t in reactor.getDelayedCalls())
