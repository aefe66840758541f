"""Browsers that have entered, in memory: a restart sends them to the portal again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import attrs

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.gateway.hosts import WebHost
from dwcloud.protocol.gateway.login import decode_token, encode_token
from dwcloud.protocol.grants import AccessGrant, GrantKind, Verifier
from dwcloud.protocol.names import PeerName

__all__ = ["MAX_SESSIONS", "WebSession", "WebSessions"]

MAX_SESSIONS = 20_000
"""One more ends the one that is about to expire first."""

_COOKIE_BYTES = 32


class Closable(Protocol):
    """A stream of a session."""

    def abort(self) -> None:
        """Break it off."""


@attrs.define(eq=False)
class WebSession:
    """A browser that may use one host.

    :ivar host: that one, and no other.
    :ivar grant: what the cloud says of its account.
    :ivar encoded: the same for the server.
    :ivar pairing: its session at the relay, empty before the first stream.
    :ivar service: the name of the service that turned out to be there, None before.
    :ivar streams: to the server.
    """

    host: WebHost
    grant: AccessGrant
    encoded: bytes = attrs.field(repr=False)
    _key: bytes = attrs.field(repr=False)
    pairing: str = ""
    service: str | None = None
    streams: set[Closable] = attrs.field(factory=set, repr=False)

    @property
    def expires(self) -> float:
        """Until when it is good, seconds since 1970 (UTC)."""
        return self.grant.expires_ms / 1000

    @property
    def target(self) -> PeerName:
        """The server, or the system of which any will do."""
        return self.grant.target if self.grant.server else self.host.name


class WebSessions:
    """All of them, found by the hash of their cookies.

    :param clock: gives seconds since 1970 (UTC).
    :param random_bytes: returns as many random bytes as asked for.
    :param verify: checks signatures of the cloud.
    :param gateway_key: the public key to which grants have to be bound.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        verify: Verifier,
        gateway_key: bytes,
        *,
        capacity: int = MAX_SESSIONS,
    ) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._verify = verify
        self._gateway_key = gateway_key
        self._capacity = capacity
        # In the order of their ends: all grants of gateways are good for as long.
        self._sessions: OrderedDict[bytes, WebSession] = OrderedDict()
        self._used: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def count(self) -> int:
        """Return how many have not ended."""
        self._forget_old(self._clock())
        return len(self._sessions)

    def begin(self, host: WebHost, encoded: bytes) -> tuple[WebSession, str]:
        """Let a browser in that brings a grant, once.

        :return: its session, and the value of its cookie.
        :raises RemoteProtocolError: code 403, if the grant is of no use.
        """
        now = self._clock()
        grant = AccessGrant.decode(encoded, self._verify)
        if grant.kind is not GrantKind.GATEWAY:
            raise RemoteProtocolError("the grant is not for browsers", 403)
        if grant.client_key != self._gateway_key:
            raise RemoteProtocolError("the grant is for another relay", 403)
        wanted = host.name
        if grant.server is not None and wanted.server is None:
            # Good for one server, of which the host's name says nothing.
            wanted = PeerName(wanted.system, grant.server)
        grant.check(wanted, now=now)
        self._forget_old(now)
        if grant.grant_id.bytes in self._used:
            raise RemoteProtocolError("the grant was used before", 403)
        self._used[grant.grant_id.bytes] = grant.expires_ms / 1000
        if len(self._used) > 2 * self._capacity:
            self._used.popitem(last=False)
        return self._add(host, grant, encoded)

    def _add(
        self, host: WebHost, grant: AccessGrant, encoded: bytes
    ) -> tuple[WebSession, str]:
        cookie = self._random_bytes(_COOKIE_BYTES)
        key = hashlib.sha256(cookie).digest()
        session = self._sessions[key] = WebSession(host, grant, encoded, key)
        while len(self._sessions) > self._capacity:
            self.end(next(iter(self._sessions.values())))
        return session, encode_token(cookie)

    def find(self, host: WebHost, cookie: str) -> WebSession | None:
        """Return the session of a cookie, if it is for this host and has not ended."""
        try:
            key = hashlib.sha256(decode_token(cookie)).digest()
        except RemoteProtocolError:
            return None
        session = self._sessions.get(key)
        if session is None or session.host != host:
            return None
        if session.expires <= self._clock():
            # Its streams go on: the server cuts them when the access is taken away.
            del self._sessions[key]
            return None
        return session

    def end(self, session: WebSession) -> None:
        """Let the browser in no more, and break its streams."""
        self._sessions.pop(session._key, None)
        for stream in list(session.streams):
            stream.abort()

    def end_all(self) -> None:
        """Break everything."""
        for session in list(self._sessions.values()):
            self.end(session)

    def _forget_old(self, now: float) -> None:
        while self._sessions and next(iter(self._sessions.values())).expires <= now:
            self._sessions.popitem(last=False)
        while self._used and next(iter(self._used.values())) <= now:
            self._used.popitem(last=False)
