"""From one signature to keys: what protects a control channel after ``listen``.

Both ends contribute an X25519 key. The server's is covered by its signature, so that
only it and this mediator know the keys that come of them. Each direction has its own.
"""

from __future__ import annotations

from typing import Protocol

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.mediation.attributes import SEQUENCE
from dwcloud.protocol.stun.sealing import SequencedSealing

__all__ = ["KeyExchange", "mediator_sealing", "server_sealing"]

_FROM_SERVER = b"dwcloud control 1 from server"
_FROM_MEDIATOR = b"dwcloud control 1 from mediator"


class KeyExchange(Protocol):
    """One side of a key agreement; see :class:`dwcloud.net.identity.KeyAgreement`."""

    public_key: bytes

    def derive(self, peer_public_key: bytes, context: bytes) -> bytes:
        """Return the 32-byte key shared with the holder of ``peer_public_key``.

        :raises ValueError: if the public key is not one.
        """


def server_sealing(
    exchange: KeyExchange, mediator_key: bytes, nonce: bytes
) -> SequencedSealing:
    """Return the protection of a control channel for the server's end.

    :param nonce: the one that the server's proof used.
    :raises RemoteProtocolError: code 400, if the mediator's key is not one.
    """
    from_server, from_mediator = _keys(exchange, mediator_key, nonce)
    return SequencedSealing(from_server, from_mediator, SEQUENCE.number)


def mediator_sealing(
    exchange: KeyExchange, server_key: bytes, nonce: bytes
) -> SequencedSealing:
    """Return the protection of a control channel for the mediator's end.

    :param nonce: the one that the server's proof used.
    :raises RemoteProtocolError: code 400, if the server's key is not one.
    """
    from_server, from_mediator = _keys(exchange, server_key, nonce)
    return SequencedSealing(from_mediator, from_server, SEQUENCE.number)


def _keys(exchange: KeyExchange, peer_key: bytes, nonce: bytes) -> tuple[bytes, bytes]:
    try:
        return (
            exchange.derive(peer_key, _FROM_SERVER + nonce),
            exchange.derive(peer_key, _FROM_MEDIATOR + nonce),
        )
    except ValueError as error:
        raise RemoteProtocolError(f"PUBLIC-KEY: {error}", 400) from error
