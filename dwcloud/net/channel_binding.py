"""Binding a proof of identity to the TLS connection that carries it."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.interfaces import ISSLTransport, ITransport

__all__ = ["channel_binding"]

_LABEL = b"EXPORTER-dwcloud"
_LENGTH = 32


def channel_binding(transport: ITransport) -> bytes:
    """Return 32 bytes that only the two ends of a TLS connection know.

    This is the keying material exporter (RFC 8446, 7.5). Empty on a connection
    without TLS.
    """
    if not ISSLTransport.providedBy(transport):
        return b""
    connection = cast(Any, transport).getHandle()
    exported: bytes = connection.export_keying_material(_LABEL, _LENGTH)
    return exported
