"""``dwcloud connect``: standard input and output joined to a service."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from dwcloud.cli.cloud_access import find_peer
from dwcloud.cli.command import require
from dwcloud.cli.console import Console
from dwcloud.cli.failures import OutputLost, one_line, session_to_trace
from dwcloud.cli.options import ClientOptions, read_peer, read_service_name, value_of
from dwcloud.cli.running import begin_logging, run
from dwcloud.cli.standard_streams import StandardStreams
from dwcloud.cli.token_options import TokenOptions
from dwcloud.net.pump import PumpEnd, join
from dwcloud.peer.client import CloudClient
from dwcloud.peer.status import ConnectionReport
from dwcloud.peer.system_names import IN_USE, SystemReference
from dwcloud.protocol.names import PeerName

__all__ = ["ConnectCommand", "FarEnd", "StandardEnd"]

LINGER = 0.5
"""Seconds of silent input after which a stream that the far end closed is over."""


class StandardEnd(PumpEnd):
    """The end of the pump at standard input and output.

    When the far end has closed, nobody can tell whether it still reads: what the
    input goes on to bring is sent, silence ends the stream.
    """

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__()
        self._clock = clock
        self._silence: IDelayedCall | None = None
        self.over: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Pass on; the input is not silent."""
        if self._silence is not None:
            self._silence.reset(LINGER)
        super().dataReceived(data)

    def end_writing(self) -> None:
        """The far end has closed: wait for silence."""
        super().end_writing()
        if self.lost is None and not self._read_ended:
            self._silence = self._clock.callLater(LINGER, self._silent)

    def _silent(self) -> None:
        assert self._silence is not None
        if cast(StandardStreams, self.transport).paused:
            # The far end does not take what we have: it is not silent, it is slow.
            self._silence = self._clock.callLater(LINGER, self._silent)
            return
        self._silence = None
        self.readConnectionLost()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """The output is written, or nobody reads it any more."""
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        super().connectionLost(reason)
        self.over.callback(None)


class FarEnd(PumpEnd):
    """The end of the pump at the cloud.

    :ivar over: fires when the stream is gone; :attr:`lost` tells why.
    """

    def __init__(self) -> None:
        super().__init__()
        self.over: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Pass the end on, then tell."""
        super().connectionLost(reason)
        self.over.callback(None)


class ConnectCommand(TokenOptions, ClientOptions):
    """``dwcloud connect``."""

    command = "dwcloud connect"
    synopsis = "[PEER] [NAME] [--mediator HOST[:PORT]] [options]"
    longdesc = (
        "Connect to the service NAME of the server PEER and join it to standard input "
        "and output. PEER is a name of a system that you may use, or a GUID; left out, "
        "the system that 'dwcloud system use' has chosen. NAME may be left out where "
        "the server publishes a single service. "
        "Ends when the far end has closed and everything is written."
    )
    examples = (
        "  ssh -o ProxyCommand='dwcloud connect PEER ssh --mediator HOST' user@home\n"
        "  dwcloud connect PEER log --mediator HOST > log.txt\n"
        "  dwcloud connect . ssh\n"
    )
    peer: PeerName | SystemReference
    service = ""

    def parseArgs(self, *words: str) -> None:
        """Take the peer's name and that of the service."""
        require(len(words) <= 2, "expected PEER [NAME]")
        self.peer = value_of("PEER", read_peer)(words[0]) if words else IN_USE
        if len(words) == 2:
            self.service = value_of("NAME", read_service_name)(words[1])

    def run(self, console: Console) -> int:
        """Connect, and pass on until it is over."""
        begin_logging(self["verbose"], self["log-format"])

        async def command(reactor: Any) -> int:
            return await self._connect(reactor, console)

        return run(self.command, command, console)

    async def _connect(self, reactor: Any, console: Console) -> int:
        def report(report: ConnectionReport) -> None:
            if self["json"]:
                console.message_event(report.as_dict())
            elif (hint := session_to_trace(report)) is not None:
                console.message(f"{self.command}: {hint}")

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
        try:
            far = FarEnd()
            await client.connect(
                peer,
                self.service,
                Factory.forProtocol(lambda: far),
                self.connect_options,
                report,
            )
            near = StandardEnd(reactor)
            StandardStreams(reactor, near)
            join(near, far)
            await near.over
            await far.over
            assert far.lost is not None
            assert near.lost is not None
            if near.lost.check(OutputLost):
                # The other end was closed because of this one.
                console.message(f"{self.command}: {one_line(near.lost)}")
                return 1
            if far.lost.check(ConnectionDone):
                return 0
            console.message(f"{self.command}: {one_line(far.lost)}")
            return 1
        finally:
            await client.stop()
            if account is not None:
                account.close()
