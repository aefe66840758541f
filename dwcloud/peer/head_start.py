"""Connections to relays that are begun while the mediator is still asked.

TCP to a relay takes a round trip, and so does the mediator's answer. A client that
knows the relay before lets both take the same one (docs/protocol/relaying).
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.net.http_client import HTTPClientConnection
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = ["HeadStart", "HeadStarts"]

_KEPT = 10.0
"""Seconds for a connection to be wanted; relays close it unused after 15 s."""


class HeadStart:
    """A connection to one relay that may be wanted soon.

    :param connecting: fires with it.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        url: ServiceURL,
        connecting: Deferred[HTTPClientConnection],
    ) -> None:
        self._url = url
        self._connecting = connecting
        self._connection: HTTPClientConnection | None = None
        self._taken: Deferred[HTTPClientConnection] | None = None
        self._over = False
        self._timer = clock.callLater(_KEPT, self.end)
        connecting.addCallbacks(self._connected, self._failed)

    def take(self) -> Deferred[HTTPClientConnection] | None:
        """Give the connection away, also while it is not made yet.

        :return: fails as ``connecting`` does, and cancels it; None if there is nothing
            to give any more.
        """
        if self._over:
            return None
        self._finish()
        if self._connection is None:
            self._taken = Deferred(lambda _: self._connecting.cancel())
            return self._taken
        return succeed(self._connection) if self._connection.reusable else None

    def end(self) -> None:
        """Close the connection, or make it no more, if nobody has taken it."""
        if self._over:
            return
        self._finish()
        if self._connection is None:
            self._connecting.cancel()
        else:
            self._connection.disconnect()

    def _finish(self) -> None:
        self._over = True
        if self._timer.active():
            self._timer.cancel()

    def _connected(self, connection: HTTPClientConnection) -> None:
        self._connection = connection
        if self._taken is not None:
            self._taken.callback(connection)
        elif self._over:
            connection.disconnect()

    def _failed(self, reason: Failure) -> None:
        if self._taken is not None:
            self._taken.errback(reason)
            return
        self._finish()
        if not reason.check(CancelledError):
            # Who wants the relay tries again and tells why not.
            self._log.debug(
                "relay {relay} cannot be reached so far: {reason}",
                relay=str(self._url),
                reason=reason.getErrorMessage(),
            )


class HeadStarts:
    """What was begun for one connection of a client."""

    def __init__(self) -> None:
        self._begun: dict[ServiceURL, HeadStart] = {}

    def add(self, url: ServiceURL, begun: HeadStart) -> None:
        """One more relay is on its way."""
        self._begun[url] = begun

    def find(self, url: str) -> HeadStart | None:
        """What was begun to a relay, if anything.

        :raises ValueError: if the URL cannot be read.
        """
        return self._begun.get(ServiceURL.parse(url))

    def keep_only(self, urls: Iterable[str]) -> None:
        """Close what leads to other relays."""
        kept = {ServiceURL.parse(url) for url in urls}
        for url, begun in self._begun.items():
            if url not in kept:
                begun.end()

    def end(self) -> None:
        """Close whatever nobody has taken."""
        self.keep_only(())
