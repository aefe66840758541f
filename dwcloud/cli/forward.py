"""``dwcloud forward``: services of a server on local ports."""

from __future__ import annotations

import ipaddress
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    gatherResults,
    maybeDeferred,
)
from twisted.internet.interfaces import IAddress, IListeningPort, ITCPTransport
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from dwcloud.cli.cloud_access import find_peer
from dwcloud.cli.command import require
from dwcloud.cli.console import Console
from dwcloud.cli.failures import is_expected, one_line, session_to_trace
from dwcloud.cli.options import (
    ClientOptions,
    Endpoint,
    read_address,
    read_peer,
    read_port,
    read_service_name,
    value_of,
)
from dwcloud.cli.running import begin_logging, run, until_interrupted
from dwcloud.cli.token_options import TokenOptions
from dwcloud.net.pump import PumpEnd, join
from dwcloud.peer.client import CloudClient, ConnectOptions
from dwcloud.peer.status import ConnectionReport
from dwcloud.peer.system_names import IN_USE, SystemReference
from dwcloud.protocol.names import PeerName

__all__ = ["ForwardCommand", "Forwarder", "Forwarding", "read_forwarding"]

_LOOPBACK = "127.0.0.1"


@attrs.frozen
class Forwarding:
    """A local port and the service that it leads to.

    :ivar address: local IP address.
    :ivar port: local port, 0 for any.
    """

    address: str
    port: int
    service: str


def read_forwarding(text: str) -> Forwarding:
    """Read ``LOCALPORT:NAME`` or ``ADDR:LOCALPORT:NAME``.

    :raises ValueError: if it is something else; the message says what would be right.
    """
    expected = "expected LOCALPORT:NAME such as 8080:web"
    where, colon, service = text.rpartition(":")
    if not colon:
        raise ValueError(f"{text!r} names no service: {expected}")
    address, colon, port = where.rpartition(":")
    if not colon:
        address = _LOOPBACK
    elif address.startswith("[") and address.endswith("]"):
        address = str(ipaddress.IPv6Address(read_address(address[1:-1])))
    else:
        address = read_address(address)
    return Forwarding(address, read_port(port), read_service_name(service))


class Forwarder(Factory):
    """Joins each connection to a local port to a new stream of the service."""

    noisy = False

    def __init__(
        self,
        client: CloudClient,
        peer: PeerName,
        service: str,
        options: ConnectOptions,
        console: Console,
        json: bool,
    ) -> None:
        self._client = client
        self._peer = peer
        self._service = service
        self._options = options
        self._console = console
        self._json = json
        self._connecting: set[Deferred[Any]] = set()

    def buildProtocol(self, addr: IAddress | None) -> PumpEnd:
        """The local connection's end of a pump, which waits for the other."""
        return _LocalEnd(self)

    def connect(self, local: PumpEnd) -> None:
        """Connect the other end for a local connection."""
        far = PumpEnd()
        connecting = self._client.connect(
            self._peer,
            self._service,
            Factory.forProtocol(lambda: far),
            self._options,
            self._report,
        )
        self._connecting.add(connecting)

        def settled(result: Any) -> Any:
            self._connecting.discard(connecting)
            return result

        connecting.addBoth(settled)
        connecting.addCallbacks(
            lambda _: join(local, far), self._failed, errbackArgs=(local,)
        )

    def stop(self) -> None:
        """Give up the connections that are on their way."""
        for connecting in list(self._connecting):
            connecting.cancel()

    def _failed(self, reason: Failure, local: PumpEnd) -> None:
        if local.lost is None:
            transport: ITCPTransport = local.transport  # type: ignore[assignment]
            transport.abortConnection()
        if not reason.check(CancelledError) and not is_expected(reason):
            self._console.message(reason.getTraceback().rstrip())
        elif not reason.check(CancelledError) and not self._json:
            self._console.message(
                f"dwcloud forward: {self._service}: {one_line(reason)}"
            )

    def _report(self, report: ConnectionReport) -> None:
        if self._json:
            self._console.message_event(report.as_dict())
        elif (hint := session_to_trace(report)) is not None:
            self._console.message(f"dwcloud forward: {hint}")
        elif report.path is not None:
            self._console.message(
                f"{self._service}: connected by {report.path.value} to "
                f"{report.remote_address} in {report.connect_seconds:.2f} s"
            )


class _LocalEnd(PumpEnd):
    """A connection to the local port."""

    def __init__(self, forwarder: Forwarder) -> None:
        super().__init__()
        self._forwarder = forwarder

    def connectionMade(self) -> None:
        """Read nothing yet; connect the other end."""
        super().connectionMade()
        self._forwarder.connect(self)


class ForwardCommand(TokenOptions, ClientOptions):
    """``dwcloud forward``."""

    command = "dwcloud forward"
    synopsis = "[PEER] LOCALPORT:NAME... [options]"
    longdesc = (
        "Listen on local ports; each connection to one becomes a connection to the "
        "service NAME of the server PEER: a name of a system that you may use, or a "
        "GUID; left out, the system that 'dwcloud system use' has chosen. Ports are "
        "those of 127.0.0.1; "
        "ADDR:LOCALPORT:NAME listens on another address. LOCALPORT 0 takes a free port "
        "and prints it. Runs until it is interrupted."
    )
    examples = (
        "  dwcloud forward PEER 8080:web --mediator HOST\n"
        "  dwcloud forward PEER 8080:web 5900:screen --mediator HOST --json\n"
    )
    peer: PeerName | SystemReference
    forwardings: list[Forwarding]

    def parseArgs(self, *words: str) -> None:
        """Take the peer's name and the ports."""
        # No name of a server has a colon.
        named = bool(words) and ":" not in words[0]
        least = 2 if named else 1
        require(len(words) >= least, "expected PEER LOCALPORT:NAME...")
        self.peer = value_of("PEER", read_peer)(words[0]) if named else IN_USE
        read = value_of("LOCALPORT:NAME", read_forwarding)
        self.forwardings = [read(word) for word in words[least - 1 :]]
        taken = [(f.address, f.port) for f in self.forwardings if f.port]
        for one in taken:
            require(taken.count(one) == 1, f"port {one[1]} is named twice")

    def run(self, console: Console) -> int:
        """Listen, and forward until interrupted."""
        begin_logging(self["verbose"], self["log-format"])

        async def command(reactor: Any) -> int:
            return await self._forward(reactor, console)

        return run(self.command, command, console)

    async def _forward(self, reactor: Any, console: Console) -> int:
        peer, account = await find_peer(reactor, self, console, self.peer)
        client = CloudClient(
            reactor,
            self.mediator,
            grants=account,
            interface=self.interface,
            lan=self.lan,
            proxies=self.proxies,
            method=self.method,
            memory=self.method_memory,
        )
        client.start()
        ports: list[IListeningPort] = []
        forwarders: list[Forwarder] = []
        try:
            for each in self.forwardings:
                forwarder = Forwarder(
                    client,
                    peer,
                    each.service,
                    self.connect_options,
                    console,
                    bool(self["json"]),
                )
                port = reactor.listenTCP(each.port, forwarder, interface=each.address)
                ports.append(port)
                forwarders.append(forwarder)
                self._announce(console, port, each.service)
            return await until_interrupted()
        finally:
            for forwarder in forwarders:
                forwarder.stop()
            await gatherResults([maybeDeferred(port.stopListening) for port in ports])
            await client.stop()
            if account is not None:
                account.close()

    def _announce(self, console: Console, port: IListeningPort, service: str) -> None:
        host: IPv4Address = port.getHost()  # type: ignore[assignment]
        local = Endpoint(host.host, host.port)
        if self["json"]:
            console.result_event(
                {"event": "listening", "address": str(local), "service": service}
            )
        else:
            console.line(f"{local} -> {service}")
