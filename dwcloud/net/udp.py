"""One UDP port that carries STUN and UDT side by side.

The port with which a peer asks the mediator is the port that punches the hole and the
port of every later stream through it, so the two protocols share it. They are told
apart by the first bytes of each datagram (RFC 8489, section 5).
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.net.udp_batch import BatchedUDPPort, offload_available
from dwcloud.net.udp_direct import DirectUDPPort, descriptors_available
from dwcloud.net.udp_port import DatagramPort, PlainUDPPort, UDPStatistics, segments
from dwcloud.net.udt_port import UDTPort
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.udt.configuration import Configuration

__all__ = [
    "PortType",
    "SharedUDPPort",
    "is_stun_datagram",
    "shared_port",
    "shared_ports",
]

_COOKIE = b"\x21\x12\xa4\x42"
_COOKIE_OFFSET = 4
_STUN_HEADER = 20


def is_stun_datagram(data: bytes | memoryview) -> bool:
    """Tell whether a datagram is a STUN message (RFC 8489, section 5).

    UDT could show the same bytes only in one packet in 2^48.
    """
    return (
        len(data) >= _STUN_HEADER
        and data[0] < 0x40
        and data[_COOKIE_OFFSET : _COOKIE_OFFSET + 4] == _COOKIE
        and (data[2] << 8 | data[3]) == len(data) - _STUN_HEADER
    )


PortType = type[BatchedUDPPort] | type[DirectUDPPort] | type[PlainUDPPort]
"""The ways to carry datagrams, the fastest first."""


def fastest_port_type(reactor: Any) -> PortType:
    """Return the fastest way to carry datagrams on this machine and reactor."""
    if offload_available(reactor):
        return BatchedUDPPort
    return DirectUDPPort if descriptors_available(reactor) else PlainUDPPort


class SharedUDPPort:
    """A UDP socket, sorted into STUN and UDT.

    :param reactor: provides IReactorTime and either IReactorFDSet or IReactorUDP.
    :param interface: the IP address to bind; the empty string is all of IPv4.
    :param port: the UDP port to bind; 0 takes a free one.
    :param only_ipv6: whether ``::`` leaves IPv4 to another socket with that port.
    :param configuration: of the UDT connections on this port.
    :param random_bytes: the source of socket ids, sequence numbers and cookies.
    :param port_type: what carries the datagrams; the fastest that works by default.
    :ivar onSTUN: gets each STUN datagram and the address it came from.
    :ivar udt: makes and accepts UDT connections on this port.
    """

    _log = Logger()

    onSTUN: Callable[[bytes, Address], None] | None = None

    def __init__(
        self,
        reactor: Any,
        *,
        interface: str = "",
        port: int = 0,
        only_ipv6: bool = False,
        configuration: Configuration | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
        port_type: PortType | None = None,
    ) -> None:
        make_port = port_type or fastest_port_type(reactor)
        self._port: DatagramPort = make_port(
            reactor, self, interface=interface, port=port, only_ipv6=only_ipv6
        )
        self._running = False
        self.udt = UDTPort(
            reactor,
            self._port,
            configuration=configuration or Configuration(),
            random_bytes=random_bytes,
        )

    def __repr__(self) -> str:
        return f"<SharedUDPPort on {self._port!r}>"

    @property
    def statistics(self) -> UDPStatistics:
        """Counters of datagrams sent, received and lost."""
        return self._port.statistics

    @property
    def running(self) -> bool:
        """Whether the socket is bound."""
        return self._running

    def start(self) -> None:
        """Bind the socket.

        :raises twisted.internet.error.CannotListenError: the address is not free.
        """
        self._port.start()
        self._running = True

    def stop(self) -> Deferred[None]:
        """Abort what runs over this port and close it; fires when it is closed."""
        if not self._running:
            return succeed(None)
        self._running = False
        return self._port.stop()

    def getHost(self) -> Address:
        """Return the IP address and port bound; the address may be a wildcard."""
        return Address(*self._port.local_address())

    @property
    def ports(self) -> dict[int, SharedUDPPort]:
        """This port, by the family of its address: 4 or 6."""
        return {self.getHost().family: self}

    def sendDatagram(self, data: bytes, address: tuple[str, int]) -> None:
        """Send one datagram; what the operating system refuses counts as lost."""
        self._port.send(data, None, address)

    def send_nearby(self, data: bytes, address: tuple[str, int], ttl: int) -> None:
        """Send one datagram that the router number ``ttl`` on its way drops."""
        self._port.send_nearby(data, address, ttl)

    def datagrams_received(
        self,
        data: bytes | memoryview,
        segment_size: int | None,
        address: tuple[str, int],
    ) -> None:
        """Sort a datagram or a batch of them; called by the port."""
        if segment_size is None:
            if data[_COOKIE_OFFSET : _COOKIE_OFFSET + 4] == _COOKIE and (
                is_stun_datagram(data)
            ):
                self._stun_received(bytes(data), address)
            else:
                self.udt.datagrams_received(data, None, address)
        elif _COOKIE[0] in bytes(data[_COOKIE_OFFSET::segment_size]):
            # One look at the same byte of all datagrams shows the rare batch that
            # may hold STUN; only that one is taken apart.
            for datagram in segments(data, segment_size):
                self.datagrams_received(datagram, None, address)
        else:
            self.udt.datagrams_received(data, segment_size, address)

    def _stun_received(self, data: bytes, address: tuple[str, int]) -> None:
        if self.onSTUN is None:
            return
        try:
            self.onSTUN(data, Address(*address))
        except Exception:
            self._log.failure("while handling STUN from {address}", address=address)

    def batch_ended(self) -> None:
        """Let UDT work on what came; called by the port."""
        self.udt.service()

    def port_closed(self, reason: Failure) -> None:
        """End what ran over this port; called by the port."""
        self._running = False
        self.udt.port_closed(reason)


_ports: weakref.WeakKeyDictionary[
    Any, weakref.WeakValueDictionary[tuple[str, int], SharedUDPPort]
] = weakref.WeakKeyDictionary()


def shared_port(
    reactor: Any,
    *,
    interface: str = "",
    port: int = 0,
    configuration: Configuration | None = None,
    exclusive: bool = False,
) -> SharedUDPPort:
    """Return the running port of this reactor for an address, made when needed.

    It closes by itself when its last connection, attempt and listener are gone. The
    dictionary belongs to the reactor, so that simulated machines do not meet in it,
    and holds nothing alive.

    :param port: 0 is one and the same free port for all who ask for 0.
    :param exclusive: do not share a port 0: listeners need one each.
    :raises twisted.internet.error.CannotListenError: the address is not free.
    """
    of_reactor = _ports.setdefault(reactor, weakref.WeakValueDictionary())
    key = (interface, port)
    found = None if exclusive and port == 0 else of_reactor.get(key)
    if found is not None and found.running:
        return found
    made = SharedUDPPort(
        reactor, interface=interface, port=port, configuration=configuration
    )
    made.udt.on_idle = made.stop
    made.start()
    if not (exclusive and port == 0):
        of_reactor[key] = made
    of_reactor[interface, made.getHost().port] = made
    return made


def shared_ports(reactor: Any) -> list[SharedUDPPort]:
    """Return the running ports of this reactor that :func:`shared_port` made."""
    of_reactor = _ports.get(reactor)
    if of_reactor is None:
        return []
    return [port for port in dict.fromkeys(of_reactor.values()) if port.running]
