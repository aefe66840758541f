"""TLS of Twisted for bulk data: many records written on by one call.

Twisted's transport encrypts 16 KiB, reads it out of OpenSSL and writes it on, again and
again; what that costs besides the encryption is half of all on a fast path. Only the
step from plain to encrypted bytes is replaced here, and a costly one at the beginning.
"""

from __future__ import annotations

from typing import Any, cast

from OpenSSL.SSL import Error, WantReadError
from twisted.internet.interfaces import ITransport
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure

__all__ = ["BulkTLSFactory", "BulkTLSTransport"]

_RECORD = 1 << 14
_AT_ONCE = 7 * _RECORD
"""Bytes encrypted before they are written on: whole records, below what the C library
maps memory for (128 KiB)."""

_READ = _AT_ONCE + 4096


class BulkTLSTransport(BufferingTLSTransport):
    """A TLS transport that writes many records on by one call."""

    def makeConnection(self, transport: ITransport) -> None:
        """Begin as Twisted does, but declare the transport's interfaces together.

        Twisted makes a declaration of each of them alone first, which are a tenth of a
        millisecond for each connection, and then this one.
        """
        made = cast(Any, self)
        made._tlsConnection = made.factory._creatorCallable(self)
        made._appSendBuffer = []
        ProtocolWrapper.makeConnection(made, transport)
        made._checkHandshakeStatus()

    def _write(self, data: bytes) -> None:
        """Encrypt and send; what OpenSSL does not take yet waits for the far end."""
        view, offset = memoryview(data), 0
        while offset < len(view) and not self._lostTLSConnection:
            end = min(offset + _AT_ONCE, len(view))
            try:
                # OpenSSL takes one record each time (SSL_MODE_ENABLE_PARTIAL_WRITE).
                while offset < end:
                    offset += self._tlsConnection.send(view[offset:end])
            except WantReadError:
                cast(Any, self)._bufferedWrite(data[offset:])
                offset = len(view)
            except Error:
                # The protocol is to learn why, and the transport to close.
                cast(Any, self)._tlsShutdownFinished(Failure())
                return
            self._flushSendBIO()

    def _flushSendBIO(self) -> None:
        """Send whatever OpenSSL has to say."""
        size = _READ
        while size == _READ:
            try:
                data = self._tlsConnection.bio_read(_READ)
            except WantReadError:
                return
            size = len(data)
            cast(Any, self.transport).write(data)


class BulkTLSFactory(TLSMemoryBIOFactory):
    """Wraps the protocols of another factory in :class:`BulkTLSTransport`."""

    protocol = BulkTLSTransport
    noisy = False
