"""The accepting side of the handshake: no state until the cookie has come back."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

import attrs

from dwcloud.protocol.udt.configuration import Configuration
from dwcloud.protocol.udt.early_data import EarlyPieces
from dwcloud.protocol.udt.handshake import (
    REJECTION,
    VERSION,
    Handshake,
    RequestType,
)
from dwcloud.protocol.udt.initiation import is_acceptable
from dwcloud.protocol.udt.packets import HandshakePacket

__all__ = ["Listener"]

COOKIE_PERIOD = 600.0
"""Seconds. Who has a tunnel uses its cookie again for the next stream."""
CHALLENGES_PER_SECOND = 5000


class Listener:
    """Challenges, cookies and the terms of acceptance (docs/protocol/udt).

    A cookie is a keyed hash over address, port and the time in tens of minutes; those
    of the ten minutes before are accepted too.

    :param backlog: the most connections that the program has not yet taken.
    :ivar early: what clients sent with their conclusions.
    """

    def __init__(
        self,
        configuration: Configuration,
        random_bytes: Callable[[int], bytes],
        backlog: int,
    ) -> None:
        self._configuration = configuration
        self._secret = random_bytes(32)
        self._challenges = 0
        self._second = 0
        self.early = EarlyPieces()
        self.backlog = backlog

    def cookie(self, address: tuple[str, int], now: float) -> int:
        """Return the cookie for an address at ``now`` (seconds)."""
        return self._cookie(address, int(now // COOKIE_PERIOD))

    def _cookie(self, address: tuple[str, int], period: int) -> int:
        text = f"{address[0]} {address[1]} {period}".encode()
        digest = hmac.digest(self._secret, text, hashlib.sha256)
        return int.from_bytes(digest[:4]) or 1

    # [udt:cookie]
    def accepts_cookie(self, cookie: int, address: tuple[str, int], now: float) -> bool:
        """Tell whether we gave that cookie to that address lately."""
        period = int(now // COOKIE_PERIOD)
        given = cookie.to_bytes(4)
        return any(
            hmac.compare_digest(given, self._cookie(address, p).to_bytes(4))
            for p in (period, period - 1)
        )

    def challenge(
        self, request: Handshake, address: tuple[str, int], now: float
    ) -> bytes | None:
        """Return the answer to a request, or to an outdated cookie: a new one.

        It is as long as the request, so nobody can be flooded by it with more than
        the sender spends. None when too many were asked for in this second.
        """
        if int(now) != self._second:
            self._second, self._challenges = int(now), 0
        self._challenges += 1
        # [udt:floods]
        if self._challenges > CHALLENGES_PER_SECOND:
            return None
        answer = attrs.evolve(
            request,
            request_type=RequestType.REQUEST,
            cookie=self.cookie(address, now),
        )
        packet = HandshakePacket(destination_id=request.socket_id, handshake=answer)
        return packet.encode()

    def accepts_terms(self, conclusion: Handshake) -> bool:
        """Tell whether version, type, packet size and window are agreeable."""
        return (
            conclusion.version == VERSION
            and conclusion.socket_type == self._configuration.socket_type
            and is_acceptable(conclusion)
        )

    @staticmethod
    # [udt:rejection]
    def rejection(conclusion: Handshake) -> bytes:
        """Return the conclusion with the mark of rejection."""
        answer = attrs.evolve(conclusion, request_type=REJECTION)
        packet = HandshakePacket(destination_id=conclusion.socket_id, handshake=answer)
        return packet.encode()
