"""Data that travel with the conclusion of a handshake (docs/protocol/udt).

A client that has a listener's cookie already need not wait for its response with the
first bytes of its stream: they follow the handshake in the same packets. They belong to
the stream but not to its numbered packets: the response tells whether they were taken,
and if so the numbered packets begin behind them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from struct import Struct

__all__ = ["LIMIT", "EarlyPieces", "EarlyWrites", "confirmation_of"]

LIMIT = 4096
"""Bytes that may go with a handshake: enough for what begins TLS."""

# [udt:early-data]
_MARK = b"dwce"
_HEAD = Struct(">4sHH")
_PIECE = 1160
"""Bytes of one packet: what fits into those that pass everywhere."""
_MOST_PIECES = 8
_MOST_CLIENTS = 256


class EarlyWrites:
    """What a program has written before its connection was up."""

    __slots__ = ("_offered", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._offered = b""

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    def append(self, data: bytes) -> None:
        """Keep what was written."""
        self._pieces.append(data)

    def offer(self) -> list[bytes]:
        """Return what is to follow each conclusion, at least one.

        It is the same each time, whatever was written since the first.
        """
        self._offered = self._offered or b"".join(self._pieces)[:LIMIT]
        offered = self._offered
        return [
            _HEAD.pack(_MARK, len(offered), at) + offered[at : at + _PIECE]
            for at in range(0, len(offered), _PIECE)
        ] or [b""]

    def settle(self, confirmation: bytes) -> None:
        """Drop what the listener has taken.

        :param confirmation: what followed its response.
        """
        if self._offered and confirmation == confirmation_of(self._offered):
            self._pieces = [b"".join(self._pieces)[len(self._offered) :]]

    def take(self) -> list[bytes]:
        """Return what is still to be sent, and forget it."""
        pieces, self._pieces = self._pieces, []
        return [piece for piece in pieces if piece]


def confirmation_of(taken: bytes) -> bytes:
    """Return what follows the response of a listener that took these bytes."""
    return _HEAD.pack(_MARK, len(taken), 0) if taken else b""


class EarlyPieces:
    """Puts together what follows the conclusions of one client.

    Of more than 256 clients of which a piece is missing the oldest starts again with
    its next one.
    """

    def __init__(self) -> None:
        self._clients: OrderedDict[Hashable, dict[int, bytes]] = OrderedDict()

    def receive(self, client: Hashable, trailing: bytes) -> bytes | None:
        """Take what followed a conclusion.

        :return: all that the client has to say, nothing if that is nothing or cannot
            be understood; None while something is missing.
        """
        if len(trailing) <= _HEAD.size:
            return b""
        mark, total, offset = _HEAD.unpack_from(trailing)
        piece = trailing[_HEAD.size :]
        if mark != _MARK or total > LIMIT or offset + len(piece) > total:
            return b""
        pieces = self._clients.pop(client, {})
        pieces[offset] = piece
        whole = b""
        while whole_piece := pieces.get(len(whole), b""):
            whole += whole_piece
        if len(whole) == total:
            return whole
        if len(whole) > total or len(pieces) >= _MOST_PIECES:
            return b""
        self._clients[client] = pieces
        if len(self._clients) > _MOST_CLIENTS:
            self._clients.popitem(last=False)
        return None
