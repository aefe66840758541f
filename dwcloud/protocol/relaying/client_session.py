"""A client's session with one server at the relay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
from automat import TypeMachineBuilder

from dwcloud.protocol.names import PeerName

__all__ = ["ClientSession", "SessionCore", "make_client_session"]


class ClientSession(Protocol):
    """The session; it opens any number of tunnels until it has idled for too long."""

    def tunnel_requested(self) -> None:
        """The client asks for a tunnel, which counts as open while it waits."""

    def tunnel_ended(self) -> None:
        """A tunnel was closed, or could not be opened."""

    def idle_timed_out(self) -> None:
        """No tunnel was open for the time limit."""

    def _last_tunnel_ended(self) -> None:
        """No tunnel is open any more."""


@attrs.define(eq=False)
class SessionCore:
    """What all states share.

    :ivar session_id: 32 hexadecimal digits chosen by the relay.
    :ivar server: the server, chosen when the session began.
    :ivar idle_began: called when no tunnel is open, with the time limit to start.
    :ivar idle_ended: called when a tunnel is asked for again.
    :ivar expired: called when the session is over.
    """

    session_id: str
    server: PeerName
    idle_began: Callable[[], None]
    idle_ended: Callable[[], None]
    expired: Callable[[], None]
    open_tunnels: int = 0


def _build() -> Callable[[SessionCore], ClientSession]:
    machine = TypeMachineBuilder(ClientSession, SessionCore)

    idle = machine.state("Idle")
    active = machine.state("Active")
    expired = machine.state("Expired")

    @idle.upon(ClientSession.tunnel_requested).to(active)
    def open_first(session: ClientSession, core: SessionCore) -> None:
        core.idle_ended()
        core.open_tunnels = 1

    @active.upon(ClientSession.tunnel_requested).loop()
    def open_another(session: ClientSession, core: SessionCore) -> None:
        core.open_tunnels += 1

    @active.upon(ClientSession.tunnel_ended).loop()
    def close_one(session: ClientSession, core: SessionCore) -> None:
        core.open_tunnels -= 1
        if core.open_tunnels == 0:
            session._last_tunnel_ended()

    @idle.upon(ClientSession.idle_timed_out).to(expired)
    def expire(session: ClientSession, core: SessionCore) -> None:
        core.expired()

    @active.upon(ClientSession._last_tunnel_ended).to(idle)
    def begin_idle(session: ClientSession, core: SessionCore) -> None:
        core.idle_began()

    # A tunnel was asked for just before the time was up.
    active.upon(ClientSession.idle_timed_out).loop().returns(None)
    # The end: these are late echoes.
    expired.upon(ClientSession.idle_timed_out).loop().returns(None)
    return machine.build()


make_client_session = _build()
"""Makes the machine of a new session, which idles."""
