"""The end of one direction of a TLS connection (RFC 8446, 6.1).

TLS 1.3 lets one side end its direction by close_notify and go on reading. Twisted does
so when told to lose the connection, but takes the far end's close_notify for the end of
both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.protocols.tls import TLSMemoryBIOProtocol

__all__ = ["keep_writing_after_close_notify"]


def keep_writing_after_close_notify(transport: Any, ended: Callable[[], None]) -> None:
    """Let the far end's close_notify end its direction only.

    Nothing changes once this side has ended its own: the connection is over then. Does
    nothing on a transport that is not a TLS connection itself.

    :param ended: called when close_notify has come, behind all data.
    """
    if not isinstance(transport, TLSMemoryBIOProtocol):
        return
    connection: Any = transport.getHandle()
    receive = connection.recv
    told = False

    def recv(size: int) -> bytes:
        nonlocal told
        try:
            data: bytes = receive(size)
        except SSL.ZeroReturnError:
            if connection.get_shutdown() & SSL.SENT_SHUTDOWN:
                raise
            if not told:
                told = True
                ended()
            # To Twisted it is as if there were nothing to read for now.
            raise SSL.WantReadError from None
        return data

    connection.recv = recv
