"""What a mediator tells of servers and connections to whoever wants to know."""

from __future__ import annotations

from typing import Protocol

from dwcloud.protocol.mediation.activity import Activity
from dwcloud.protocol.mediation.session import ConnectSessionCore
from dwcloud.protocol.names import PeerName

__all__ = ["IgnoreAll", "Observer"]


class Observer(Protocol):
    """Hears of what happens; must not wait."""

    def server_online(self, name: PeerName) -> None:
        """A server registered."""

    def server_offline(self, name: PeerName) -> None:
        """A server's last control channel is gone."""

    def activity_reported(self, name: PeerName, activity: Activity) -> None:
        """A server tells what it carries."""

    def introduction_failed(self, core: ConnectSessionCore, reason: str) -> None:
        """A client was told why it cannot be introduced."""

    def connection_ended(
        self,
        core: ConnectSessionCore,
        outcome: str,
        *,
        path: str,
        seconds: float | None,
    ) -> None:
        """A client told what became of its introduction.

        :param outcome: ``ok``, or the reason of the failure.
        :param path: kind of path, empty without one.
        :param seconds: from the request to the verified path, None if not told.
        """


class IgnoreAll:
    """Nobody wants to know."""

    def server_online(self, name: PeerName) -> None:
        """See :meth:`Observer.server_online`."""

    def server_offline(self, name: PeerName) -> None:
        """See :meth:`Observer.server_offline`."""

    def activity_reported(self, name: PeerName, activity: Activity) -> None:
        """See :meth:`Observer.activity_reported`."""

    def introduction_failed(self, core: ConnectSessionCore, reason: str) -> None:
        """See :meth:`Observer.introduction_failed`."""

    def connection_ended(
        self,
        core: ConnectSessionCore,
        outcome: str,
        *,
        path: str,
        seconds: float | None,
    ) -> None:
        """See :meth:`Observer.connection_ended`."""
