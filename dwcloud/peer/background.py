"""Punching that goes on while a relay carries the stream."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dwcloud.peer.client_punching import ClientPunch
from dwcloud.protocol.names import PeerName

__all__ = ["BackgroundPunches"]


class BackgroundPunches:
    """What a client punches in the background, at most once to each server.

    :param on_over: told each server when it is over, one way or the other.
    """

    def __init__(self, on_over: Callable[[PeerName], None]) -> None:
        self._on_over = on_over
        self._punching: dict[PeerName, ClientPunch] = {}

    def __contains__(self, peer: PeerName) -> bool:
        return any(peer.includes(server) for server in self._punching)

    def add(self, server: PeerName, punching: ClientPunch) -> None:
        """Let one go on whose race is over."""
        self.give_way(server)
        self._punching[server] = punching
        punching.go_on(partial(self._over, server))

    def give_way(self, server: PeerName) -> None:
        """End what is done for a server: two at a time would confuse both ends."""
        punching = self._punching.get(server)
        if punching is not None:
            punching.abandon()

    def stop(self) -> None:
        """End all."""
        for server in list(self._punching):
            self.give_way(server)

    def _over(self, server: PeerName) -> None:
        self._punching.pop(server, None)
        self._on_over(server)
