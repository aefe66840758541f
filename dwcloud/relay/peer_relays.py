"""The other relays that servers may be at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    inlineCallbacks,
    succeed,
)
from twisted.internet.endpoints import connectProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.net.http_client import HTTPClientConnection, carrier_endpoint
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.paths import client_sessions_path
from dwcloud.protocol.tunnelling.methods import HeaderList
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = ["PeerRelays"]

_PATIENCE = 2.0
_MOST_AT_ONCE = 100
_ABSENT_FOR = 1.0
"""Seconds for which what nobody has is not asked for again."""
_MOST_ABSENT = 1000


class PeerRelays:
    """Asks other relays whether a server is there.

    What is asked is what a client's request tells anybody, whether a session can be
    had, so that relays need no secret between them; where clients need a grant, the
    client's goes along. Whoever is asked answers for itself alone: questions do not
    travel on.

    :param urls: where these relays are reached, by clients too.
    """

    log = Logger()

    def __init__(self, reactor: Any, urls: Sequence[ServiceURL]) -> None:
        self._reactor = reactor
        self._urls = tuple(urls)
        self._waiting: dict[PeerName, list[Deferred[ServiceURL | None]]] = {}
        self._questions: dict[PeerName, Deferred[None]] = {}
        self._absent_until: dict[PeerName, float] = {}

    def __len__(self) -> int:
        return len(self._urls)

    def locate(
        self, name: PeerName, *, authorization: str | None = None
    ) -> Deferred[ServiceURL | None]:
        """Find the relay that has a server, or any server of a system.

        :param authorization: what lets the client in who wants to know.
        :return: fires with the URL of the first that says so, with None if none does
            within 2 s, did a second ago, or if 100 later questions drive this one out.
        """
        if not self._urls or self._is_absent(name):
            return succeed(None)
        waiting = self._waiting.get(name)
        if waiting is not None:
            return _wait(waiting)
        if len(self._waiting) >= _MOST_AT_ONCE:
            self._drive_out(next(iter(self._waiting)))
        waiting = self._waiting[name] = []
        located = _wait(waiting)
        self._begin(name, authorization)
        return located

    def _begin(self, name: PeerName, authorization: str | None) -> None:
        headers: HeaderList = ()
        if authorization is not None:
            headers = ((b"authorization", authorization.encode("ascii", "replace")),)
        questions = [self._ask(url, name, headers) for url in self._urls]
        answers: Any = DeferredList(
            questions, fireOnOneCallback=True, consumeErrors=True
        )
        self._questions[name] = answers

        def answered(result: Any) -> None:
            # The others' answers matter no more.
            for question in questions:
                question.cancel()
            if name not in self._waiting:
                return  # driven out
            url = result[0] if isinstance(result, tuple) else None
            if url is None:
                self._note_absent(name)
            self._tell(name, url)

        answers.addBoth(answered)

    def _tell(self, name: PeerName, url: ServiceURL | None) -> None:
        del self._questions[name]
        for each in self._waiting.pop(name):
            each.callback(url)

    def _drive_out(self, name: PeerName) -> None:
        answers = self._questions[name]
        self._tell(name, None)
        answers.cancel()

    def _is_absent(self, name: PeerName) -> bool:
        now: float = self._reactor.seconds()
        return now < self._absent_until.get(name, 0.0)

    def _note_absent(self, name: PeerName) -> None:
        self._absent_until.pop(name, None)
        self._absent_until[name] = self._reactor.seconds() + _ABSENT_FOR
        while len(self._absent_until) > _MOST_ABSENT:
            del self._absent_until[next(iter(self._absent_until))]

    def _ask(
        self, url: ServiceURL, name: PeerName, headers: HeaderList
    ) -> Deferred[ServiceURL]:
        question: Deferred[ServiceURL] = self._request(url, name, headers)
        question.addTimeout(_PATIENCE, self._reactor)

        def failed(failure: Failure) -> Failure:
            if not failure.check(CancelledError, _NotThere):
                self.log.warn(
                    "relay {url} could not be asked for a server: {reason}",
                    url=str(url),
                    reason=failure.getErrorMessage() or repr(failure.value),
                )
            return failure

        return question.addErrback(failed)

    @inlineCallbacks
    def _request(self, url: ServiceURL, name: PeerName, headers: HeaderList) -> Any:
        endpoint = carrier_endpoint(self._reactor, url, timeout=_PATIENCE)
        connection = HTTPClientConnection(url.authority)
        yield connectProtocol(endpoint, connection)
        try:
            path = url.path + client_sessions_path(name)
            answer = yield connection.request("HEAD", path, headers)
        finally:
            connection.disconnect()
        if answer.status != 200:
            raise _NotThere
        return url


def _wait(waiting: list[Deferred[ServiceURL | None]]) -> Deferred[ServiceURL | None]:
    """Add one who waits, and who may leave."""
    one: Deferred[ServiceURL | None] = Deferred(waiting.remove)
    waiting.append(one)
    return one


class _NotThere(Exception):
    """The relay that was asked does not have the server."""
