"""The client's side of opening a stream over one path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
from automat import TypeMachineBuilder

from dwcloud.protocol.opening.messages import Message, Open, Refused, Start

__all__ = ["ClientOpening", "ClientOpeningCore", "client_opening_machine"]


class ClientOpening(Protocol):
    """What happens to a path on the client's side, in the past tense."""

    def path_connected(self) -> None:
        """TLS is up and the far end's identity is proven."""

    def start_requested(self, service: str) -> None:
        """This path was selected; the service is to be connected."""

    def ready_received(self) -> None:
        """The server knows the session."""

    def started_received(self) -> None:
        """The server connected the service."""

    def refused_received(self, refused: Refused) -> None:
        """The server says no."""


@attrs.define
class ClientOpeningCore:
    """What the machine acts on.

    :ivar opening: the first message, with session and name.
    :ivar send: sends one message.
    :ivar on_ready: told once when the path is verified.
    :ivar on_started: told once when data may flow.
    :ivar on_refused: told once when the server says no.
    """

    opening: Open
    send: Callable[[Message], None]
    on_ready: Callable[[], None]
    on_started: Callable[[], None]
    on_refused: Callable[[Refused], None]


_builder = TypeMachineBuilder(ClientOpening, ClientOpeningCore)
_fresh = _builder.state("fresh")
_opening = _builder.state("opening")
_starting_early = _builder.state("starting early")
_ready = _builder.state("ready")
_starting = _builder.state("starting")
_started = _builder.state("started")
_refused = _builder.state("refused")


@_fresh.upon(ClientOpening.path_connected).to(_opening)
def _open(inputs: ClientOpening, core: ClientOpeningCore) -> None:
    core.send(core.opening)


@_opening.upon(ClientOpening.ready_received).to(_ready)
def _verified(inputs: ClientOpening, core: ClientOpeningCore) -> None:
    core.on_ready()


# With no other path in the race there is nothing to wait for: a round trip is saved.
@_opening.upon(ClientOpening.start_requested).to(_starting_early)
def _start_early(inputs: ClientOpening, core: ClientOpeningCore, service: str) -> None:
    core.send(Start(service))


@_starting_early.upon(ClientOpening.ready_received).to(_starting)
def _verified_early(inputs: ClientOpening, core: ClientOpeningCore) -> None:
    core.on_ready()


@_starting_early.upon(ClientOpening.refused_received).to(_refused)
def _refused_early(
    inputs: ClientOpening, core: ClientOpeningCore, refused: Refused
) -> None:
    core.on_refused(refused)


@_ready.upon(ClientOpening.start_requested).to(_starting)
def _start(inputs: ClientOpening, core: ClientOpeningCore, service: str) -> None:
    core.send(Start(service))


@_starting.upon(ClientOpening.started_received).to(_started)
def _data_may_flow(inputs: ClientOpening, core: ClientOpeningCore) -> None:
    core.on_started()


@_opening.upon(ClientOpening.refused_received).to(_refused)
def _session_refused(
    inputs: ClientOpening, core: ClientOpeningCore, refused: Refused
) -> None:
    core.on_refused(refused)


@_starting.upon(ClientOpening.refused_received).to(_refused)
def _service_refused(
    inputs: ClientOpening, core: ClientOpeningCore, refused: Refused
) -> None:
    core.on_refused(refused)


client_opening_machine = _builder.build()
"""Builds a :class:`ClientOpening` from a :class:`ClientOpeningCore`."""
