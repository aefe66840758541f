"""How a connection is to be made, as the caller wants it."""

from __future__ import annotations

import math

import attrs

from dwcloud.errors import ConfigurationError

__all__ = ["PATHS", "ConnectOptions", "nothing_to_try"]

PATHS = ("auto", "lan", "tcp", "udp", "relay")


@attrs.frozen
class ConnectOptions:
    """How to connect.

    :ivar path: ``"auto"`` for the first that works, or the only kind to use:
        ``"lan"``, ``"tcp"``, ``"udp"``, ``"relay"``.
    :ivar prefer: ``"udp"`` or ``"tcp"`` to wait a moment for that transport; None
        takes what comes first, or what the mediator's operator prefers.
    :ivar timeout: seconds for the whole.
    :ivar tls: False to send in the clear what the application encrypts by itself; the
        server must offer the service so. Its identity is proven all the same.
    """

    path: str = "auto"
    prefer: str | None = None
    timeout: float = 20.0
    tls: bool = True

    def __attrs_post_init__(self) -> None:
        if self.path not in PATHS:
            raise ConfigurationError(
                f"path {self.path!r} is not one of {', '.join(PATHS)}"
            )
        if self.prefer not in (None, "udp", "tcp"):
            raise ConfigurationError(f"prefer {self.prefer!r} is neither udp nor tcp")
        if not 0 < self.timeout < math.inf:
            raise ConfigurationError(f"timeout {self.timeout!r} is not above 0 s")


def nothing_to_try(path: str) -> str:
    """Say why there is no attempt for a kind of path that was asked for."""
    return {
        "udp": "the mediator named no UDP address: the server's connection_ack did "
        "not arrive, so UDP may be blocked between the server and the mediator",
        "tcp": "the server reports no TCP address",
        "relay": "the mediator announces no relay",
    }.get(path, "the mediator named no address and no relay")
