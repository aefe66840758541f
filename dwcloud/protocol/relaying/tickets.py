"""Tickets that open a proven server's further connections without a round trip."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.expiry import ExpiryQueue

__all__ = ["TICKET_LIFETIME", "Tickets"]

TICKET_LIFETIME = 600.0
"""Seconds that a ticket is good for."""

_LENGTH = 32
_PER_SERVER = 4
_MOST = 100_000


class Tickets:
    """The tickets that a relay has given out.

    A ticket is a random number of 256 bits bound to the name of a server. Only its
    hash is kept: what is looked up by it tells nothing by the time it takes, and a
    dump of the table opens nothing.

    :param random_bytes: returns as many random bytes as asked for.
    :param most: tickets at a time; one more drives out the oldest, whose server has to
        prove itself again.
    """

    def __init__(self, random_bytes: Callable[[int], bytes], most: int = _MOST) -> None:
        self._most = most
        self._random_bytes = random_bytes
        self._names: dict[bytes, PeerName] = {}
        self._of_server: dict[PeerName, list[bytes]] = {}
        self._expiry: ExpiryQueue[bytes] = ExpiryQueue(TICKET_LIFETIME)

    def issue(self, name: PeerName, *, now: float) -> str:
        """Make a ticket for a server that has just proven itself."""
        self._expire(now)
        ticket = base64.urlsafe_b64encode(self._random_bytes(_LENGTH)).decode("ascii")
        digest = self._digest(ticket)
        tickets = self._of_server.setdefault(name, [])
        if len(tickets) == _PER_SERVER:
            self._forget(tickets[0])
        if len(self._names) >= self._most:
            self._forget(next(iter(self._names)))
        self._of_server.setdefault(name, tickets).append(digest)
        self._names[digest] = name
        self._expiry.touch(digest, now)
        return ticket

    def accepts(self, ticket: str, name: PeerName, *, now: float) -> bool:
        """Tell whether ``ticket`` is a valid one of the server ``name``."""
        self._expire(now)
        return self._names.get(self._digest(ticket)) == name

    def __len__(self) -> int:
        return len(self._names)

    @staticmethod
    def _digest(ticket: str) -> bytes:
        return hashlib.sha256(ticket.encode("utf-8", "replace")).digest()

    def _expire(self, now: float) -> None:
        for digest in self._expiry.pop_due(now):
            self._forget(digest)

    def _forget(self, digest: bytes) -> None:
        self._expiry.discard(digest)
        name = self._names.pop(digest)
        tickets = self._of_server[name]
        tickets.remove(digest)
        if not tickets:
            del self._of_server[name]
