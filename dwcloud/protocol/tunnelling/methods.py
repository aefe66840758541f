"""The ways to carry a byte stream through HTTP, behind one interface."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import attrs

__all__ = [
    "ECHO_FIELD",
    "ECHO_SIZE",
    "FINITE_MESSAGES",
    "GET_POST",
    "METHOD_NAMES",
    "POST",
    "PROBE_PATH",
    "PROBE_TOKEN",
    "UPGRADE",
    "WEBSOCKET",
    "HeaderList",
    "Opening",
    "RequestHead",
    "TunnellingMethod",
    "TunnellingMethods",
]

UPGRADE = "upgrade"
"""Name of the method of one GET and 101."""

WEBSOCKET = "websocket"
"""Name of the method of a WebSocket."""

POST = "post"
"""Name of the method of one POST that is endless both ways."""

GET_POST = "get_post"
"""Name of the method of an endless GET and an endless POST."""

FINITE_MESSAGES = "finite_messages"
"""Name of the method of short requests."""

METHOD_NAMES = (UPGRADE, WEBSOCKET, POST, GET_POST, FINITE_MESSAGES)
"""All methods, the cheapest first."""

ECHO_FIELD = b"dwcloud-echo"
"""Field of a request that opens a tunnel: so many bytes come back first."""

ECHO_SIZE = 16
"""Bytes that a client sends first and wants back."""

PROBE_PATH = "/tunnel_probe"
"""Path, without the method's name, of tunnels that lead nowhere."""

PROBE_TOKEN = "dwcloud-probe"
"""Name of what is inside them."""

HeaderList = tuple[tuple[bytes, bytes], ...]
"""Header fields, names in lower case."""


@attrs.frozen
class RequestHead:
    """The head of an HTTP request."""

    method: str
    target: str
    headers: HeaderList = ()


@attrs.frozen
class Opening:
    """What a client wants a tunnel to.

    :ivar path: path of the tunnel resource, without the method's name.
    :ivar token: name of the protocol inside the tunnel.
    :ivar headers: further header fields, such as a proof of identity.
    :ivar tunnel_id: 32 hexadecimal digits that nobody can guess.
    """

    path: str
    token: str
    headers: HeaderList = ()
    tunnel_id: str = "0" * 32

    def target(self, method: str) -> str:
        """The target of a request, which is new so that no cache knows the answer."""
        return f"{self.path.rstrip('/')}/{method}?tunnel={self.tunnel_id}"

    def proven(self, proof: HeaderList) -> Opening:
        """The same with a proof of identity in place of what was refused."""
        kept = tuple(h for h in self.headers if h[0] != b"authorization")
        return attrs.evolve(self, headers=kept + proof)


class TunnellingMethod(Protocol):
    """How a client opens one tunnel.

    A method says which requests open a tunnel and judges the answers; the adapter
    sends them, one connection a request.
    """

    @property
    def name(self) -> str:
        """The last segment of the tunnel's path."""

    def requests(self, opening: Opening) -> tuple[RequestHead, ...]:
        """The requests that open a tunnel, each for a connection of its own."""

    def check_answer(
        self, opening: Opening, index: int, status: int, headers: HeaderList
    ) -> None:
        """Accept the answer to the request number ``index``.

        :raises RemoteProtocolError: if it opens no tunnel; its code is the status.
        """


class TunnellingMethods:
    """The methods that a program knows, in order of cost."""

    def __init__(self, methods: Iterable[TunnellingMethod] = ()) -> None:
        self._methods: dict[str, TunnellingMethod] = {}
        for method in methods:
            self.register(method)

    def register(self, method: TunnellingMethod) -> None:
        """Add a method, the most costly one so far.

        :raises ValueError: if there is one of this name.
        """
        if method.name in self._methods:
            raise ValueError(f"a tunnelling method {method.name} is registered already")
        self._methods[method.name] = method

    def get(self, name: str) -> TunnellingMethod:
        """Return the method of a name.

        :raises ValueError: if there is none; the message lists those there are.
        """
        try:
            return self._methods[name]
        except KeyError:
            raise ValueError(
                f"{name!r} is not a tunnelling method: expected one of "
                + ", ".join(self._methods)
            ) from None

    @property
    def names(self) -> tuple[str, ...]:
        """All names, the cheapest first."""
        return tuple(self._methods)
