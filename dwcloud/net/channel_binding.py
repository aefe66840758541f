"""Binding a proof of identity to the TLS connection that carries it."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.interfaces import ISSLTransport, ITransport

__all__ = [
    "carried_channel_binding",
    "carry_channel_binding",
    "channel_binding",
    "tls_binding",
]

_LABEL = b"EXPORTER-dwcloud"
_LENGTH = 32


def carry_channel_binding(transport: ITransport, binding: bytes) -> None:
    """Note what binds a connection whose TLS another process of ours has taken off."""
    cast(Any, transport).carried_channel_binding = binding


def carried_channel_binding(transport: ITransport) -> bytes | None:
    """What :func:`carry_channel_binding` noted, None if it did not."""
    return cast("bytes | None", getattr(transport, "carried_channel_binding", None))


def channel_binding(transport: ITransport) -> bytes:
    """Return 32 bytes that only the two ends of a TLS connection know.

    This is the keying material exporter (RFC 8446, 7.5). Empty on a connection
    without TLS.
    """
    carried = carried_channel_binding(transport)
    if carried is not None:
        return carried
    if not ISSLTransport.providedBy(transport):
        return b""
    return tls_binding(transport)


def tls_binding(transport: ITransport) -> bytes:
    """Return the same of a transport that is known to have TLS, which is up."""
    connection = cast(Any, transport).getHandle()
    exported: bytes = connection.export_keying_material(_LABEL, _LENGTH)
    return exported
