"""NTLM and Negotiate at a proxy (RFC 4559), by the optional library pyspnego.

Both prove one connection in two or three requests on it, and nothing after them needs a
further proof.
"""

from __future__ import annotations

import base64
import binascii
from functools import cache
from typing import Any

from dwcloud.protocol.tunnelling.proxies import Proxy

__all__ = ["HANDSHAKES", "Handshake", "HandshakeFailed", "why_no_handshake"]

HANDSHAKES = ("negotiate", "ntlm")
"""Schemes that prove a connection, the stronger one first."""

_NAMES = {"negotiate": "Negotiate", "ntlm": "NTLM"}


@cache
def _library() -> Any:
    """Pyspnego, or None without it; loaded late, for few proxies ask for it."""
    try:
        import spnego
        import spnego.exceptions
    except ImportError:
        return None
    return spnego


def why_no_handshake() -> str:
    """Why there is neither here; empty if there is."""
    if _library() is None:
        return "NTLM and Negotiate need pyspnego (pip install 'dwcloud[proxy-auth]')"
    return ""


class HandshakeFailed(Exception):
    """What the proxy sent, or what is known here, makes no further step possible."""


class Handshake:
    """The proof of one connection.

    :param scheme: one of :data:`HANDSHAKES`.
    :ivar begun: whether a first step was sent.
    """

    def __init__(self, scheme: str, proxy: Proxy) -> None:
        self._scheme = scheme
        self._token: bytes | None = None
        self._asked = False
        self.begun = False
        self._failure = _library().exceptions.SpnegoError
        try:
            self._context: Any = _library().client(
                proxy.username,
                proxy.password,
                hostname=proxy.host,
                service="HTTP",
                protocol=scheme,
            )
        except self._failure as e:
            raise HandshakeFailed(f"{_NAMES[scheme]} cannot be used here: {e}") from e

    def step(self) -> str:
        """Value of the next ``Proxy-Authorization``; empty when none is due.

        :raises HandshakeFailed: if there is no next step.
        """
        if self.begun and not self._asked:
            return ""
        self.begun, self._asked = True, False
        try:
            token: bytes | None = self._context.step(self._token)
        except (self._failure, ValueError) as e:
            raise HandshakeFailed(f"{_NAMES[self._scheme]} failed: {e}") from e
        text = base64.b64encode(token or b"").decode("ascii")
        return f"{_NAMES[self._scheme]} {text}"

    def receive(self, parameters: str) -> bool:
        """Take the proxy's part; False if it has none, which is a rejection."""
        try:
            token = base64.b64decode(parameters.strip(), validate=True)
        except binascii.Error:
            return False
        if not token or self._context.complete:
            return False
        self._token, self._asked = token, True
        return True
