"""A proxy that lets in who proves his connection by NTLM or Negotiate.

It runs on any reactor, as :class:`dwcloud.testing.proxy.BadProxy` does, and needs the
library pyspnego, whose acceptor takes users from a file of lines
``DOMAIN:USER:PASSWORD`` that the environment variable ``NTLM_USER_FILE`` names.
"""

from __future__ import annotations

import base64
from typing import Any

import h11
from twisted.internet.interfaces import IAddress

from dwcloud.testing.proxy import BadProxy, ClientSide, Defects

__all__ = ["NTLMProxy"]


class NTLMProxy(BadProxy):
    """Makes the proxy's connections.

    :param scheme: ``"NTLM"`` or ``"Negotiate"``.
    :param closes: whether it closes the connection after each answer 407, with which
        nobody can prove anything.
    :ivar proven: the schemes by which connections were proven, with the method of the
        last request of each.
    """

    def __init__(
        self,
        reactor: Any,
        defects: Defects | None = None,
        *,
        scheme: str = "NTLM",
        closes: bool = False,
    ) -> None:
        super().__init__(reactor, defects)
        self.scheme = scheme
        self.closes = closes
        self.proven: set[tuple[str, str]] = set()

    def buildProtocol(self, addr: IAddress | None) -> ClientSide:
        """Make one."""
        return _ProvenSide(self, self.scheme, self.closes)


class _ProvenSide(ClientSide):
    """A client's connection, which is proven once."""

    def __init__(self, proxy: NTLMProxy, scheme: str, closes: bool) -> None:
        super().__init__(proxy)
        self._scheme = scheme
        self._closes = closes
        self._proven = proxy.proven
        self._context: Any = None
        self._answer_token = b""
        self._challenged = False

    def _is_authorized(
        self, method: str, target: str, headers: dict[bytes, bytes]
    ) -> bool:
        import spnego
        import spnego.exceptions

        if self._context is not None and self._context.complete:
            return True
        self._answer_token = b""
        scheme, _, text = headers.get(b"proxy-authorization", b"").partition(b" ")
        if scheme.decode() != self._scheme:
            return False
        if self._context is None:
            self._context = spnego.server(protocol=self._scheme.lower())
        try:
            token = self._context.step(base64.b64decode(text))
        except spnego.exceptions.SpnegoError:
            self._context = None
            return False
        self._answer_token = token or b""
        if self._context.complete:
            self._proven.add((self._scheme, method))
        return bool(self._context.complete)

    def _challenge(self) -> None:
        text = base64.b64encode(self._answer_token).decode()
        field = ("Proxy-Authenticate", f"{self._scheme} {text}".strip())
        if self._closes:
            self._refuse(407, [field])
            return
        self._challenged = True
        self._to_client(
            h11.Response(
                status_code=407,
                headers=[field, ("Content-Length", "0"), ("Connection", "keep-alive")],
            )
        )
        self._to_client(h11.EndOfMessage())

    def _request_over(self) -> None:
        if not self._challenged:
            super()._request_over()
            return
        self._challenged = False
        self._http.start_next_cycle()
