"""A UDP port of two sockets, one for each version of the Internet Protocol.

A socket for both would show IPv4 addresses in a form of IPv6, and there is none on a
system without IPv6. Two with one port number are what people take for a port, and what
the rules of a firewall name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, gatherResults
from twisted.internet.error import CannotListenError, NoRouteError
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.logger import Logger

from dwcloud.net.udp import SharedUDPPort
from dwcloud.net.udt_port import UDTListeningPort
from dwcloud.protocol.addresses import Address

__all__ = ["AnyUDPPort", "DualUDPPort", "DualUDTPort"]


def _family(address: tuple[str, int]) -> int:
    return 6 if ":" in address[0] else 4


def _no_socket(address: tuple[str, int]) -> Deferred[IProtocol]:
    reason = f"there is no UDP socket of IPv{_family(address)}"
    return fail(NoRouteError(string=reason))


class DualUDPPort:
    """A UDP port of IPv4, and of IPv6 as well where that is wanted.

    What is sent goes by the socket of the destination's family.

    :param interface: the only local IP address to use, which leaves one socket; empty
        for all.
    :param port: the UDP port to bind; 0 takes a free one.
    :param wants_ipv6: tells whether a socket of IPv6 is of use by now.
    :ivar onSTUN: gets each STUN datagram and the address it came from.
    :ivar udt: makes and accepts UDT connections on both sockets.
    :ivar ports: the sockets that are open, by family: 4 or 6.
    """

    _log = Logger()

    onSTUN: Callable[[bytes, Address], None] | None = None

    def __init__(
        self,
        reactor: Any,
        *,
        interface: str = "",
        port: int = 0,
        wants_ipv6: Callable[[], bool] = lambda: False,
    ) -> None:
        self._reactor = reactor
        self._single = bool(interface)
        self._wants_ipv6 = wants_ipv6
        self._port_number = port
        self._first = SharedUDPPort(reactor, interface=interface, port=port)
        self._second: SharedUDPPort | None = None
        self.ports: dict[int, SharedUDPPort] = {}
        self.udt = DualUDTPort(self.ports)

    def __repr__(self) -> str:
        return f"<DualUDPPort {[str(port.getHost()) for port in self.ports.values()]}>"

    def start(self) -> None:
        """Bind what is wanted by now.

        :raises twisted.internet.error.CannotListenError: the address is not free.
        """
        self._open(self._first)
        self.look()

    def look(self) -> None:
        """Bind the socket of IPv6 if it has come to be wanted.

        It has the port number of the other one, unless that is taken.
        """
        if self._single or 6 in self.ports or not self.ports or not self._wants_ipv6():
            return
        number = self._first.getHost().port
        for port in (number, 0):
            self._second = SharedUDPPort(
                self._reactor, interface="::", port=port, only_ipv6=True
            )
            try:
                self._open(self._second)
            except CannotListenError as error:
                self._log.info(
                    "UDP port {port} of IPv6 cannot be used: {reason}",
                    port=port,
                    reason=str(error.socketError),
                )
            else:
                return

    def _open(self, port: SharedUDPPort) -> None:
        port.onSTUN = self._stun_received
        port.start()
        self.ports[port.getHost().family] = port
        self.udt.opened(port)

    def stop(self) -> Deferred[None]:
        """Abort what runs over this port and close it; fires when it is closed."""
        stopping = [port.stop() for port in self.ports.values()]
        self.ports.clear()
        return gatherResults(stopping).addCallback(lambda _: None)

    def getHost(self) -> Address:
        """Return the first socket's IP address and port; it may be a wildcard."""
        return self._first.getHost()

    def sendDatagram(self, data: bytes, address: tuple[str, int]) -> None:
        """Send one datagram; where there is no socket for it, it is lost."""
        port = self.ports.get(_family(address))
        if port is not None:
            port.sendDatagram(data, address)

    def _stun_received(self, data: bytes, address: Address) -> None:
        if self.onSTUN is not None:
            self.onSTUN(data, address)


class DualUDTPort:
    """UDT on the sockets of a :class:`DualUDPPort`: each address by that of its family.

    :param ports: the sockets, by family.
    """

    def __init__(self, ports: dict[int, SharedUDPPort]) -> None:
        self._ports = ports
        self._factory: IProtocolFactory | None = None
        self._listening: list[UDTListeningPort] = []

    def opened(self, port: SharedUDPPort) -> None:
        """Accept connections on one more socket, if that is done on the others."""
        if self._factory is not None:
            self._listening.append(port.udt.listen(self._factory))

    def listen(self, factory: IProtocolFactory) -> DualUDTPort:
        """Accept connections on all sockets, those to come included.

        :return: has ``stopListening``.
        :raises twisted.internet.error.CannotListenError: if somebody listens already.
        """
        self._factory = factory
        for port in self._ports.values():
            self.opened(port)
        return self

    def stopListening(self) -> Deferred[None]:
        """Accept no more; connections that exist stay."""
        self._factory = None
        listening, self._listening = self._listening, []
        stopping = [port.stopListening() for port in listening]
        return gatherResults(stopping).addCallback(lambda _: None)

    def rendezvous(
        self, address: tuple[str, int], factory: IProtocolFactory, timeout: float
    ) -> Deferred[IProtocol]:
        """See :meth:`dwcloud.net.udt_port.UDTPort.rendezvous`.

        Fails with :exc:`twisted.internet.error.NoRouteError` if there is no socket of
        that family.
        """
        port = self._ports.get(_family(address))
        if port is None:
            return _no_socket(address)
        return port.udt.rendezvous(address, factory, timeout)

    def connect_early(
        self, address: tuple[str, int], factory: IProtocolFactory
    ) -> Deferred[IProtocol]:
        """See :meth:`dwcloud.net.udt_port.UDTPort.connect_early`."""
        port = self._ports.get(_family(address))
        if port is None:
            return _no_socket(address)
        return port.udt.connect_early(address, factory)

    def add_alias(self, source: Address, address: Address) -> None:
        """See :meth:`dwcloud.net.udt_port.UDTPort.add_alias`."""
        port = self._ports.get(_family(address))
        if port is not None and _family(source) == _family(address):
            port.udt.add_alias(source, address)

    def known_as(self, source: Address) -> Address:
        """See :meth:`dwcloud.net.udt_port.UDTPort.known_as`."""
        port = self._ports.get(_family(source))
        return source if port is None else port.udt.known_as(source)

    def has_connections_to(self, address: tuple[str, int]) -> bool:
        """See :meth:`dwcloud.net.udt_port.UDTPort.has_connections_to`."""
        port = self._ports.get(_family(address))
        return port is not None and port.udt.has_connections_to(address)


AnyUDPPort = SharedUDPPort | DualUDPPort
"""A UDP port for STUN and UDT, of one socket or of two."""
