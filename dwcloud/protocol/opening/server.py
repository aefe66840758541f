"""The server's side of opening a stream over one path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
from automat import TypeMachineBuilder

from dwcloud.protocol.opening.messages import (
    Message,
    Proof,
    Ready,
    RefusalCode,
    Refused,
    Start,
    Started,
)

__all__ = ["ServerOpening", "ServerOpeningCore", "server_opening_machine"]


class ServerOpening(Protocol):
    """What happens to a path on the server's side, in the past tense."""

    def session_admitted(self, proof: Proof | None) -> None:
        """The client presented a session that is known here."""

    def session_refused(self, refused: Refused) -> None:
        """The client presented a session that is not admitted."""

    def start_received(self, message: Start) -> None:
        """The client selected this path."""

    def service_connected(self, service: str) -> None:
        """The published service accepted the connection."""

    def service_failed(self, code: RefusalCode, reason: str) -> None:
        """The published service cannot be reached or is not known."""


@attrs.define
class ServerOpeningCore:
    """What the machine acts on.

    :ivar send: sends one message.
    :ivar connect_service: begins to connect the named service; ends in
        ``service_connected`` or ``service_failed``.
    :ivar on_started: told once when data may flow.
    :ivar on_refused: told once when the path is to be closed.
    """

    send: Callable[[Message], None]
    connect_service: Callable[[str], None]
    on_started: Callable[[], None]
    on_refused: Callable[[Refused], None]


def _refuse(core: ServerOpeningCore, refused: Refused) -> None:
    core.send(refused)
    core.on_refused(refused)


_builder = TypeMachineBuilder(ServerOpening, ServerOpeningCore)
_fresh = _builder.state("fresh")
_ready = _builder.state("ready")
_connecting = _builder.state("connecting")
_started = _builder.state("started")
_refused = _builder.state("refused")


@_fresh.upon(ServerOpening.session_admitted).to(_ready)
def _verify(
    inputs: ServerOpening, core: ServerOpeningCore, proof: Proof | None
) -> None:
    core.send(Ready(proof))


@_fresh.upon(ServerOpening.session_refused).to(_refused)
def _turn_away(
    inputs: ServerOpening, core: ServerOpeningCore, refused: Refused
) -> None:
    _refuse(core, refused)


@_ready.upon(ServerOpening.start_received).to(_connecting)
def _connect(inputs: ServerOpening, core: ServerOpeningCore, message: Start) -> None:
    core.connect_service(message.service)


@_connecting.upon(ServerOpening.service_connected).to(_started)
def _start(inputs: ServerOpening, core: ServerOpeningCore, service: str) -> None:
    core.send(Started(service))
    core.on_started()


@_connecting.upon(ServerOpening.service_failed).to(_refused)
def _fail(
    inputs: ServerOpening, core: ServerOpeningCore, code: RefusalCode, reason: str
) -> None:
    _refuse(core, Refused(code, reason))


# It came right behind an OPEN that was refused, before the client could know.
_refused.upon(ServerOpening.start_received).loop().returns(None)

server_opening_machine = _builder.build()
"""Builds a :class:`ServerOpening` from a :class:`ServerOpeningCore`."""
