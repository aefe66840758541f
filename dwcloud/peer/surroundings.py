"""What all parts of an examination have in common: whom to ask, and how long."""

from __future__ import annotations

import re
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

import attrs
import h11
from twisted.internet import defer, error
from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from dwcloud.errors import CloudError
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.protocol.errors import RemoteProtocolError

__all__ = ["EXPECTED", "Surroundings", "all_of", "reason_of", "tidy"]

T = TypeVar("T")

EXPECTED = (
    CloudError,
    RemoteProtocolError,
    h11.RemoteProtocolError,
    defer.TimeoutError,
    error.ConnectError,
    error.ConnectionClosed,
    error.BindError,
    OSError,
)
"""What the outside world causes; anything else is a bug."""


@attrs.frozen(kw_only=True)
class Surroundings:
    """Where an examination takes place.

    :ivar interface: the only local IP address to use, empty for any.
    :ivar proxies: what leads out of this network.
    :ivar ends: when it has to be over, seconds of the reactor's clock.
    :ivar limit: how many seconds that was from the start.
    """

    reactor: Any
    mediator: MediatorAddress | None
    interface: str
    proxies: Proxies
    ends: float
    limit: float

    @property
    def connect_timeout(self) -> float:
        """Seconds for one connection; so others can follow when it fails."""
        return self.limit * 0.6

    def limited(self, doing: Deferred[T] | Coroutine[Any, Any, T]) -> Deferred[T]:
        """Wait for something until the examination has to be over.

        :return: fails with :exc:`twisted.internet.defer.TimeoutError` then.
        """
        started = (
            doing if isinstance(doing, Deferred) else Deferred.fromCoroutine(doing)
        )
        left = max(0.001, self.ends - self.reactor.seconds())
        return started.addTimeout(left, self.reactor)

    def reason_of(self, failure: Failure) -> str:
        """Why something failed; see :func:`reason_of`."""
        if failure.check(defer.TimeoutError):
            return f"not finished within {self.limit:g} s"
        return reason_of(failure)


async def all_of(looking: Iterable[Deferred[T] | Coroutine[Any, Any, T]]) -> list[T]:
    """Return all results, when nothing is being looked at any more.

    That is so also when it is cancelled, which cancels each look.
    """
    under_way = [
        each if isinstance(each, Deferred) else Deferred.fromCoroutine(each)
        for each in looking
    ]
    found = []
    for _, result in await DeferredList(under_way, consumeErrors=True):
        if isinstance(result, Failure):
            result.raiseException()
        found.append(result)
    return found


def reason_of(failure: Failure) -> str:
    """Return what happened as a piece of a sentence.

    :raises Exception: the failure's own, if it is a bug.
    """
    if not failure.check(*EXPECTED):
        failure.raiseException()
    if failure.check(error.TimeoutError) and not failure.check(CloudError):
        return "no answer"
    return tidy(failure.getErrorMessage()) or type(failure.value).__name__


_SHORTER = {
    "Connection was refused by other side": "refused",
    "TCP connection timed out": "no answer",
    "User timeout caused connection failure": "no answer",
}
"""Words of Twisted, which adds the number and the words of the operating system."""


def tidy(text: str) -> str:
    """Return an error message as a piece of a sentence for people."""
    text = " ".join(text.split())
    for long, short in _SHORTER.items():
        text = re.sub(rf"{long}(: \d+: [A-Z][^;,.:()]*)?\.?", short, text)
    text = re.sub(r"An error occurred while connecting: (\d+: )?", "", text)
    return text.rstrip(".; ")
