"""This machine's addresses and router, and when they change."""

from __future__ import annotations

import contextlib
import ipaddress
import pathlib
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import ifaddr
from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.interfaces import ILocalNetwork, LocalAddress

__all__ = ["NetworkWatch", "SystemNetwork", "local_network"]

_ROUTES = pathlib.Path("/proc/net/route")
_LOOK_INTERVAL = 5.0
"""Seconds between looks at clocks, and at addresses where nobody tells of changes."""
_SETTLE = 0.3
"""Seconds that changes may go on before somebody is told of them."""
_ANY_PORT = 9
_CLOCK_STEP = 3.0
"""Seconds that time may pass unnoticed; more was a sleep."""
# Of linux/rtnetlink.h: links, addresses and routes.
_NETLINK_GROUPS = 0x1 | 0x10 | 0x40 | 0x100


def local_network(reactor: Any) -> Any:
    """Return the :class:`~dwcloud.interfaces.ILocalNetwork` of a reactor's machine."""
    if ILocalNetwork.providedBy(reactor):
        return reactor
    return SystemNetwork(reactor)


def _clock_gap() -> float:
    """Seconds that the machine slept, since some moment; its differences count."""
    boot_clock = getattr(time, "CLOCK_BOOTTIME", None)
    now = time.time() if boot_clock is None else time.clock_gettime(boot_clock)
    return now - time.monotonic()


def _routes() -> str:
    """The table of IPv4 routes, empty where the system has no such file."""
    try:
        return _ROUTES.read_text()
    except OSError:
        return ""


@implementer(ILocalNetwork)
class SystemNetwork:
    """What the operating system knows.

    :ivar knowsGateway: whether this system tells its router.

    :param reactor: provides IReactorTime and, to be told of changes at once,
        IReactorFDSet.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.knowsGateway = _ROUTES.exists()

    def localAddresses(self) -> list[LocalAddress]:
        """Return all addresses of all interfaces."""
        return [
            LocalAddress(
                ip.ip if isinstance(ip.ip, str) else ip.ip[0].partition("%")[0],
                ip.network_prefix,
                adapter.name,
            )
            for adapter in ifaddr.get_adapters()
            for ip in adapter.ips
        ]

    def sourceAddress(self, host: str) -> str | None:
        """Ask the system's routing, which sends nothing for that."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as asking:
                asking.connect((host, _ANY_PORT))
                return str(asking.getsockname()[0])
        except OSError:
            return None

    def defaultGateway(self, interface: str) -> str | None:
        """Return the router of the default route of least metric; Linux only."""
        names = {a.interface for a in self.localAddresses() if a.host == interface}
        return read_gateway(_routes(), names if interface else None)

    def watchNetwork(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call ``changed`` within a second, where the system tells of changes."""
        watch = NetworkWatch(
            self._reactor,
            lambda: (self.localAddresses(), _routes()),
            changed,
            listen=_netlink_socket,
        )
        watch.start()
        return watch.stop


def read_gateway(routes: str, names: set[str] | None) -> str | None:
    """Find the router in the table of routes that Linux shows.

    :param names: of the interfaces that count; None for all.
    """
    best: tuple[int, str] | None = None
    for line in routes.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or (names is not None and fields[0] not in names):
            continue
        destination, gateway, mask = (int(fields[i], 16) for i in (1, 2, 7))
        if destination or mask or not gateway:
            continue
        # The kernel prints addresses as numbers of this machine's byte order.
        host = str(ipaddress.IPv4Address(gateway.to_bytes(4, sys.byteorder)))
        found = (int(fields[6]), host)
        best = found if best is None else min(best, found)
    return None if best is None else best[1]


def _netlink_socket() -> socket.socket | None:
    """Return a socket that becomes readable with each change; None without such."""
    family = getattr(socket, "AF_NETLINK", None)
    if family is None:
        return None
    try:
        made = socket.socket(family, socket.SOCK_RAW, 0)
        made.setblocking(False)
        made.bind((0, _NETLINK_GROUPS))
    except OSError:
        return None
    return made


class NetworkWatch:
    """Tells of changes of what a function returns, and of time that was slept.

    :param look: returns what is watched.
    :param changed: told of changes, once for several in quick succession.
    :param listen: makes the socket that tells when to look; None looks regularly.
    :param clock_gap: grows by the seconds that the machine slept.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        look: Callable[[], object],
        changed: Callable[[], None],
        *,
        listen: Callable[[], socket.socket | None] = lambda: None,
        clock_gap: Callable[[], float] = _clock_gap,
    ) -> None:
        self._reactor = reactor
        self._look = look
        self._changed = changed
        self._listen = listen
        self._clock_gap = clock_gap
        self._seen: object = None
        self._gap = 0.0
        self._reader: _Reader | None = None
        self._timer: IDelayedCall | None = None
        self._settling: IDelayedCall | None = None

    def start(self) -> None:
        """Watch from now on."""
        self._seen = self._look()
        self._gap = self._clock_gap()
        if IReactorFDSet.providedBy(self._reactor):
            made = self._listen()
            if made is not None:
                self._reader = _Reader(made, self._notified)
                self._reactor.addReader(self._reader)
        self._arm()

    def stop(self) -> None:
        """Watch no longer."""
        if self._reader is not None:
            self._reactor.removeReader(self._reader)
            self._reader.close()
            self._reader = None
        for timer in (self._timer, self._settling):
            if timer is not None and timer.active():
                timer.cancel()

    def _arm(self) -> None:
        due = self._reactor.seconds() + _LOOK_INTERVAL
        self._timer = self._reactor.callLater(_LOOK_INTERVAL, self._tick, due)

    def _tick(self, due: float) -> None:
        late = self._reactor.seconds() - due
        gap, self._gap = self._gap, self._clock_gap()
        self._arm()
        if late > _CLOCK_STEP or self._gap - gap > _CLOCK_STEP:
            self._log.info("this machine slept; its connections are looked after")
            self._seen = self._look()
            self._changed()
        elif self._reader is None:
            self._compare()

    def _notified(self) -> None:
        if self._settling is None or not self._settling.active():
            self._settling = self._reactor.callLater(_SETTLE, self._compare)

    def _compare(self) -> None:
        seen, self._seen = self._seen, self._look()
        if self._seen != seen:
            self._log.info("the addresses or routes of this machine changed")
            self._changed()


@implementer(IReadDescriptor)
class _Reader:
    """A socket in the reactor that only has to be emptied."""

    def __init__(self, made: socket.socket, notified: Callable[[], None]) -> None:
        self._socket = made
        self._notified = notified

    def fileno(self) -> int:
        """The descriptor for the reactor."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """The name in logs."""
        return "NetworkWatch"

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def doRead(self) -> None:
        """Take what the kernel says; what it is, looking tells better."""
        # Also if it says ENOBUFS: so many changes that some were not told.
        with contextlib.suppress(OSError):
            while self._socket.recv(65536):
                continue
        self._notified()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor gave the descriptor up."""
        self.close()
