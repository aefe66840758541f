"""The relay's view of one server: idle connections, or clients that wait for one."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Protocol

import attrs
from automat import TypeMachineBuilder

__all__ = ["ListeningPeer", "PeerCore", "make_listening_peer"]


class ListeningPeer(Protocol):
    """A server at this relay. Connections and clients are the caller's numbers."""

    def connection_offered(self, connection: int) -> None:
        """The server opened one more connection."""

    def connection_lost(self, connection: int) -> None:
        """An idle connection was lost."""

    def client_arrived(self, client: int) -> None:
        """A client wants a connection."""

    def client_left(self, client: int) -> None:
        """A waiting client went away or has waited long enough."""

    def absence_timed_out(self) -> None:
        """The server has had no idle connection for too long."""

    def _idle_exhausted(self) -> None:
        """The last idle connection is taken or lost."""


@attrs.define(eq=False)
class PeerCore(abc.ABC):
    """What all states share; subclasses do what is to be done.

    Methods instead of callables, which cost a third of a kilobyte for each server.

    :ivar idle: idle connections, the newest last.
    :ivar waiting: clients that wait, the first one first; a dict for its order.
    """

    idle: list[int] = attrs.field(factory=list, init=False)
    waiting: dict[int, None] = attrs.field(factory=dict, init=False)

    @abc.abstractmethod
    def join(self, connection: int, client: int) -> None:
        """Join a connection and a client."""

    @abc.abstractmethod
    def absence_began(self) -> None:
        """No idle connection is left."""

    @abc.abstractmethod
    def absence_ended(self) -> None:
        """There is an idle connection again."""

    @abc.abstractmethod
    def gone(self) -> None:
        """The server counts as gone."""


def _build() -> Callable[[PeerCore], ListeningPeer]:
    # Automat annotates it as a class to make objects of, which it does not.
    machine = TypeMachineBuilder(ListeningPeer, PeerCore)  # type: ignore[type-abstract]

    absent = machine.state("Absent")
    listening = machine.state("Listening")
    gone = machine.state("Gone")

    @absent.upon(ListeningPeer.connection_offered).to(listening)
    def first_offer(peer: ListeningPeer, core: PeerCore, connection: int) -> None:
        core.absence_ended()
        core.idle.append(connection)
        if core.waiting:
            client = next(iter(core.waiting))
            del core.waiting[client]
            _take(core, client)
        if not core.idle:
            peer._idle_exhausted()

    @absent.upon(ListeningPeer.client_arrived).loop()
    def wait(peer: ListeningPeer, core: PeerCore, client: int) -> None:
        core.waiting[client] = None

    @absent.upon(ListeningPeer.client_left).loop()
    def stop_waiting(peer: ListeningPeer, core: PeerCore, client: int) -> None:
        core.waiting.pop(client, None)

    @absent.upon(ListeningPeer.absence_timed_out).to(gone)
    def give_up(peer: ListeningPeer, core: PeerCore) -> None:
        core.gone()

    @listening.upon(ListeningPeer.connection_offered).loop()
    def another_offer(peer: ListeningPeer, core: PeerCore, connection: int) -> None:
        core.idle.append(connection)

    @listening.upon(ListeningPeer.client_arrived).loop()
    def join(peer: ListeningPeer, core: PeerCore, client: int) -> None:
        _take(core, client)
        if not core.idle:
            peer._idle_exhausted()

    @listening.upon(ListeningPeer.connection_lost).loop()
    def drop(peer: ListeningPeer, core: PeerCore, connection: int) -> None:
        if connection in core.idle:
            core.idle.remove(connection)
        if not core.idle:
            peer._idle_exhausted()

    @listening.upon(ListeningPeer._idle_exhausted).to(absent)
    def begin_absence(peer: ListeningPeer, core: PeerCore) -> None:
        core.absence_began()

    # Nobody waits while a connection is idle: the client was joined in the meantime.
    listening.upon(ListeningPeer.client_left).loop().returns(None)
    # An idle connection came back just before the time was up.
    listening.upon(ListeningPeer.absence_timed_out).loop().returns(None)
    # The connection was taken in the meantime and is no longer an idle one.
    absent.upon(ListeningPeer.connection_lost).loop().returns(None)
    # The end: a new offer or client makes a new peer, these are late echoes.
    for late in (
        ListeningPeer.connection_lost,
        ListeningPeer.client_left,
        ListeningPeer.absence_timed_out,
    ):
        gone.upon(late).loop().returns(None)
    return machine.build()


def _take(core: PeerCore, client: int) -> None:
    """Join a client with the newest idle connection.

    The newest is the one most surely alive: what a machine left behind when it lost
    power is older than what it opened since.
    """
    core.join(core.idle.pop(), client)


make_listening_peer = _build()
"""Makes the machine of a server that has no idle connection yet."""
