"""The reactor of a simulated host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IConnector,
    IDelayedCall,
    IHostnameResolver,
    IListeningPort,
    IMulticastTransport,
    IReactorCore,
    IReactorFDSet,
    IReactorFromThreads,
    IReactorMulticast,
    IReactorPluggableNameResolver,
    IReactorSSL,
    IReactorTCP,
    IReactorTime,
    IReactorUDP,
    IReadDescriptor,
    IWriteDescriptor,
)
from twisted.internet.protocol import ClientFactory, DatagramProtocol, ServerFactory
from zope.interface import implementer

from dwcloud.interfaces import ILocalNetwork, LocalAddress

from .packets import canonical_host, is_ipv6
from .readiness import Readiness
from .resolution import SimulatedResolver
from .scheduler import ScheduledCall
from .sockets import SimulatedSocket
from .system_events import SystemEvents, Trigger
from .transports import (
    SimulatedConnector,
    SimulatedMulticastPort,
    SimulatedTCPPort,
    SimulatedUDPPort,
)

if TYPE_CHECKING:
    from .hosts import Host

__all__ = ["HostReactor"]


@implementer(
    IReactorCore,
    IReactorFDSet,
    IReactorFromThreads,
    IReactorMulticast,
    IReactorPluggableNameResolver,
    IReactorSSL,
    IReactorTCP,
    IReactorTime,
    IReactorUDP,
    ILocalNetwork,
)
class HostReactor:
    """What a program on a simulated host takes for the reactor.

    It runs from the start, whenever its world runs; :meth:`stop` shuts the program
    down. Reactors of several hosts share one time but nothing else.

    :ivar host: the host it belongs to.
    :ivar running: whether the program has not been stopped.
    :ivar knowsGateway: that a simulated host knows its router.
    """

    knowsGateway = True

    def __init__(self, host: Host) -> None:
        self.host = host
        self.running = True
        self._scheduler = host.world.scheduler
        self._events = SystemEvents()
        self._readiness = Readiness(lambda function: self._soon(function))
        self._resolver: IHostnameResolver = SimulatedResolver(
            host.look_up, self.callLater, lambda: host.world.name_lookup_delay
        )

    def __repr__(self) -> str:
        return f"<HostReactor of {self.host.name}>"

    def _soon(self, function: Callable[[], None]) -> None:
        # Readiness is the kernel's affair: not among the calls of the program.
        self._scheduler.post(0.0, function)

    # IReactorTime

    def seconds(self) -> float:
        """Return the simulated time."""
        return self._scheduler.now

    def callLater(
        self,
        delay: float,
        callable: Callable[..., Any],
        *args: object,
        **kwargs: object,
    ) -> ScheduledCall:
        """Call a function after ``delay`` seconds of simulated time."""
        return self._scheduler.schedule(
            delay, callable, *args, owner=self, kwargs=kwargs
        )

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """Return the calls that this host's programs still wait for."""
        return self._scheduler.pending(self)

    # IReactorFromThreads

    def callFromThread(
        self, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> None:
        """Call a function soon; nothing here has threads."""
        self.callLater(0.0, callable, *args, **kwargs)

    # IReactorCore

    def resolve(
        self, name: str, timeout: Sequence[int] = (1, 3, 11, 45)
    ) -> Deferred[str]:
        """Resolve a name to its first IPv4 address."""
        result: Deferred[str] = Deferred()

        def answer() -> None:
            addresses = [a for a in self.host.look_up(name) if not is_ipv6(a)]
            if result.called:
                return
            if addresses:
                result.callback(addresses[0])
            else:
                result.errback(error.DNSLookupError(f"no address for {name!r}"))

        try:
            result.callback(canonical_host(name))
        except ValueError:
            self.callLater(self.host.world.name_lookup_delay, answer)
        return result

    def run(self) -> None:
        """Run the world until this reactor is stopped."""
        self.fireSystemEvent("startup")
        self.host.world.run_until(lambda: not self.running, limit=float("inf"))

    def stop(self) -> None:
        """Shut the program down: run its shutdown triggers."""
        if not self.running:
            raise error.ReactorNotRunning("Can't stop reactor that isn't running.")
        self._events.fire("shutdown").addCallback(lambda ignored: self.crash())

    def crash(self) -> None:
        """End the program at once, without any trigger.

        Its timers end with it, and its sockets are closed as a kernel does for a
        program that is gone; its protocols hear nothing more.
        """
        self.running = False
        self._readiness.clear()
        self._scheduler.cancel_all(self)
        for socket in self._readiness.sockets:
            socket.close()

    def iterate(self, delay: float = 0.0) -> None:
        """Run the whole world for ``delay`` seconds."""
        self._scheduler.run_for(delay)

    def fireSystemEvent(self, eventType: str) -> None:
        """Run the triggers of an event."""
        self._events.fire(eventType)

    def addSystemEventTrigger(
        self,
        phase: str,
        eventType: str,
        callable: Callable[..., Any],
        *args: object,
        **kwargs: object,
    ) -> Trigger:
        """Call a function in a phase of a system event."""
        return self._events.add(phase, eventType, callable, *args, **kwargs)

    def removeSystemEventTrigger(self, triggerID: Trigger) -> None:
        """Take a trigger back."""
        self._events.remove(triggerID)

    def callWhenRunning(
        self, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> Trigger | None:
        """Call a function at once if the reactor runs, else when it starts."""
        if self.running:
            callable(*args, **kwargs)
            return None
        return self._events.add("after", "startup", callable, *args, **kwargs)

    # IReactorPluggableNameResolver

    @property
    def nameResolver(self) -> IHostnameResolver:
        """The resolver of names."""
        return self._resolver

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """Use another resolver and return the present one."""
        previous, self._resolver = self._resolver, resolver
        return previous

    # IReactorTCP

    def listenTCP(
        self,
        port: int,
        factory: ServerFactory[Any],
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        """Listen on a TCP port of this host; port 0 for any free one."""
        listening = SimulatedTCPPort(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: ClientFactory[Any],
        timeout: float = 30.0,
        bindAddress: tuple[str, int] | None = None,
    ) -> IConnector:
        """Connect to a TCP port."""
        connector = SimulatedConnector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    # IReactorSSL

    def listenSSL(
        self,
        port: int,
        factory: ServerFactory[Any],
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        """Listen on a TCP port and speak TLS there."""
        from twisted.protocols.tls import TLSMemoryBIOFactory

        wrapped: Any = TLSMemoryBIOFactory(contextFactory, False, factory, self)
        return self.listenTCP(port, wrapped, backlog, interface)

    def connectSSL(
        self,
        host: str,
        port: int,
        factory: ClientFactory[Any],
        contextFactory: Any,
        timeout: float = 30.0,
        bindAddress: tuple[str, int] | None = None,
    ) -> IConnector:
        """Connect to a TCP port and speak TLS."""
        from twisted.protocols.tls import TLSMemoryBIOFactory

        wrapped = TLSMemoryBIOFactory(contextFactory, True, factory, self)
        return self.connectTCP(host, port, wrapped, timeout, bindAddress)

    # IReactorUDP and IReactorMulticast

    def listenUDP(
        self,
        port: int,
        protocol: DatagramProtocol,
        interface: str = "",
        maxPacketSize: int = 8192,
    ) -> IListeningPort:
        """Open a UDP port of this host; port 0 for any free one."""
        listening: Any = SimulatedUDPPort(  # type: ignore[no-untyped-call]
            port, protocol, interface, maxPacketSize, self
        )
        listening.startListening()
        opened: IListeningPort = listening
        return opened

    def listenMulticast(
        self,
        port: int,
        protocol: DatagramProtocol,
        interface: str = "",
        maxPacketSize: int = 8192,
        listenMultiple: bool = False,
    ) -> IMulticastTransport:
        """Open a UDP port that can join groups."""
        listening: Any = SimulatedMulticastPort(
            port, protocol, interface, maxPacketSize, self, listenMultiple
        )
        listening.startListening()
        opened: IMulticastTransport = listening
        return opened

    # ILocalNetwork

    def localAddresses(self) -> list[LocalAddress]:
        """Return the addresses of this host."""
        found = [LocalAddress("127.0.0.1", 8, "lo")]
        for number, interface in enumerate(self.host.interfaces):
            for address in interface.addresses:
                length = interface.network.match_length(address)
                found.append(LocalAddress(address, length, f"eth{number}"))
        return found

    def sourceAddress(self, host: str) -> str | None:
        """Return the address from which this host would send to another."""
        try:
            return self.host.source_for(host)
        except OSError:
            return None

    def defaultGateway(self, interface: str) -> str | None:
        """Return the router of the network that the host is in."""
        for each in self.host.interfaces:
            gateway = each.network.gateway
            if gateway is not None and interface in ("", *each.addresses):
                return gateway.default_address("0.0.0.0")
        return None

    def watchNetwork(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call a function when addresses of the host changed."""
        self.host.address_watchers.append(changed)
        return lambda: self.host.address_watchers.remove(changed)

    # IReactorFDSet

    def addReader(self, reader: IReadDescriptor) -> None:
        """Tell a transport when its simulated socket is readable."""
        self._readiness.add_reader(reader)

    def addWriter(self, writer: IWriteDescriptor) -> None:
        """Tell a transport when its simulated socket is writable."""
        self._readiness.add_writer(writer)

    def removeReader(self, reader: IReadDescriptor) -> None:
        """Tell a transport nothing more about reading."""
        self._readiness.remove_reader(reader)

    def removeWriter(self, writer: IWriteDescriptor) -> None:
        """Tell a transport nothing more about writing."""
        self._readiness.remove_writer(writer)

    def removeAll(self) -> list[IReadDescriptor | IWriteDescriptor]:
        """Forget all transports and return them."""
        removed: dict[IReadDescriptor | IWriteDescriptor, None] = {}
        removed.update(dict.fromkeys(self.getReaders()))
        removed.update(dict.fromkeys(self.getWriters()))
        self._readiness.clear()
        return list(removed)

    def getReaders(self) -> list[IReadDescriptor]:
        """Return the transports that wait to read."""
        return self._readiness.readers

    def getWriters(self) -> list[IWriteDescriptor]:
        """Return the transports that wait to write."""
        return self._readiness.writers

    # Simulated sockets

    def socket_opened(self, socket: SimulatedSocket) -> None:
        """Know a new socket of the host."""
        self._readiness.register(socket)

    def socket_changed(self, socket: SimulatedSocket) -> None:
        """Look whether a socket became readable or writable."""
        self._readiness.socket_changed(socket)

    def socket_closed(self, socket: SimulatedSocket) -> None:
        """Forget a socket."""
        self._readiness.unregister(socket)
