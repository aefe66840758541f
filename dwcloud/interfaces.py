"""What dwcloud asks of the world that Twisted's interfaces do not say."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from dwcloud.protocol.grants.possession import ClientGrant
from dwcloud.protocol.names import PeerName

__all__ = ["IGrantSource", "ILocalNetwork", "LocalAddress"]


@attrs.frozen
class LocalAddress:
    """An address of this machine.

    :ivar host: the IP address in text form, without a zone.
    :ivar prefix_length: bits of the network that it is in.
    :ivar interface: the name of the network interface.
    """

    host: str
    prefix_length: int
    interface: str


class ILocalNetwork(Interface):
    """What this machine knows of its own place in the network.

    A reactor may provide it, as that of a simulated host does; for others the
    operating system is asked (:func:`dwcloud.net.local_network.local_network`).
    """

    knowsGateway = Attribute("Whether no gateway means that there is none.")

    def localAddresses() -> list[LocalAddress]:
        """Return the addresses of this machine, loopback included."""

    def sourceAddress(host: str) -> str | None:
        """Return the address from which this machine would send to ``host``.

        :param host: an IP address.
        :return: None if it could not send there.
        """

    def defaultGateway(interface: str) -> str | None:
        """Return the IPv4 address of the router that leads out, None without one.

        :param interface: a local address whose network has to have the router; empty
            for any.
        """

    def watchNetwork(changed: Callable[[], None]) -> Callable[[], None]:
        """Call ``changed`` after addresses, routes or the clock changed.

        :return: ends that.
        """


class IGrantSource(Interface):
    """Where a client has its grants from, such as the account that is signed in."""

    def grant_for(name: PeerName, renew: bool = False) -> Deferred[ClientGrant | None]:
        """Find a grant for a server, or for a system.

        :param renew: whether the one given before was refused, so that only a new one
            is of use.
        :return: fires with None if there is none; may fail if nobody can be asked. A
            grant that is at hand and has not expired is given without asking anybody.
        """
