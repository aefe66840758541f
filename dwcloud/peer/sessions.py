"""The connect sessions that a server knows: which streams may be opened."""

from __future__ import annotations

import ipaddress
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable

import attrs
import ifaddr

__all__ = ["ConnectSessions", "KnownSession", "on_link"]


@attrs.define
class KnownSession:
    """A connect session that the mediator announced.

    :ivar client: the client's name as the mediator told it, possibly empty.
    :ivar expires: when it is forgotten unless used, seconds of the server's clock.
    """

    client: str
    expires: float


class ConnectSessions:
    """Connect sessions by id, at most ``capacity``, the oldest forgotten first.

    :param lifetime: seconds that a session stays known without being used; longer
        than a UDP tunnel may be idle, since its later streams carry the same id.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        lifetime: float = 600.0,
        capacity: int = 10_000,
    ) -> None:
        self._clock = clock
        self._lifetime = lifetime
        self._capacity = capacity
        self._sessions: OrderedDict[uuid.UUID, KnownSession] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, session: uuid.UUID, client: str = "") -> None:
        """Remember a session that the mediator announced."""
        self._forget_expired()
        # The order of the table is that of expiry, also for one announced again.
        self._sessions.pop(session, None)
        while len(self._sessions) >= self._capacity:
            self._sessions.popitem(last=False)
        expires = self._clock() + self._lifetime
        self._sessions[session] = KnownSession(client, expires)

    def use(self, session: uuid.UUID) -> KnownSession | None:
        """The session if it is known, which is then known for longer."""
        self._forget_expired()
        known = self._sessions.get(session)
        if known is not None:
            known.expires = self._clock() + self._lifetime
            self._sessions.move_to_end(session)
        return known

    def _forget_expired(self) -> None:
        now = self._clock()
        while self._sessions:
            session, known = next(iter(self._sessions.items()))
            if known.expires > now:
                return
            del self._sessions[session]


def on_link(host: str, adapters: Iterable[ifaddr.Adapter] | None = None) -> bool:
    """Tell whether an address is this machine's or on a network it is attached to.

    :param host: an IP address in text form.
    :param adapters: this machine's; found out when not given.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.is_loopback:
        return True
    for adapter in ifaddr.get_adapters() if adapters is None else adapters:
        for ip in adapter.ips:
            text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            network = ipaddress.ip_network(
                f"{text.partition('%')[0]}/{ip.network_prefix}", strict=False
            )
            if address.version == network.version and address in network:
                return True
    return False
