"""``dwcloud status``: what of the cloud can be reached from here."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from dwcloud.cli.console import Console
from dwcloud.cli.failures import is_expected, one_line
from dwcloud.cli.options import IdentityOptions, NetworkOptions
from dwcloud.cli.running import begin_logging, run
from dwcloud.cli.system import describe
from dwcloud.errors import ConfigurationError
from dwcloud.net.identity import ServerIdentity
from dwcloud.net.stun_tcp import STUNStreamProtocol
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.net.udp import SharedUDPPort
from dwcloud.peer.discovery import LANTable, lan_interfaces
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.stun.binding import binding_request, reflexive_address
from dwcloud.protocol.stun.message import STUNMessage
from dwcloud.protocol.stun.transaction import Timing

__all__ = ["StatusCommand"]

_TIMING = Timing(tries=4, initial_interval=0.5, last_wait=1.5)
"""Four tries over UDP and 5 s in all: somebody waits for the answer."""
_TCP_TIMEOUT = 5.0
_LAN_WAIT = 0.5
"""Seconds for servers on the LAN to answer; clients wait half of that."""


@attrs.frozen
class Part:
    """One line of the report.

    :ivar name: what was looked at.
    :ivar ok: whether it is as it should be.
    :ivar text: how it is, and what to do if it is not as it should be.
    :ivar values: the same as plain values.
    """

    name: str
    ok: bool
    text: str
    values: dict[str, Any]


class _Receiver:
    """Hears what a mediator says unasked on a connection: nothing of interest."""

    def connectionOpened(self, connection: STUNStreamProtocol) -> None:
        """Nothing to do: the request follows."""

    def requestReceived(self, message: STUNMessage, raw: bytes) -> None:
        """Not answered."""

    def indicationReceived(self, message: STUNMessage, raw: bytes) -> None:
        """Not looked at."""

    def connectionClosed(self, reason: Failure) -> None:
        """The request has failed if it was pending."""


class StatusCommand(NetworkOptions, IdentityOptions):
    """``dwcloud status``."""

    command = "dwcloud status"
    synopsis = "[--mediator HOST[:PORT]] [--identity DIR] [--json]"
    longdesc = (
        "Tell whether the mediator answers over UDP and TCP and how this machine looks "
        "from there, who this machine is, and which servers are on the LAN. The exit "
        "code is 0 if the mediator answers both ways, or none is named."
    )
    optFlags = [["json", None, "Print one line of JSON instead."]]

    def postOptions(self) -> None:
        """Everything may be left out here; just read the mediator's address."""
        self.mediator  # noqa: B018 - for the error that it may raise

    def run(self, console: Console) -> int:
        """Look, and print what there is."""
        begin_logging(self["verbose"])

        async def command(reactor: Any) -> int:
            return await self._look(reactor, console)

        return run(self.command, command, console)

    async def _look(self, reactor: Any, console: Console) -> int:
        looking: list[Deferred[Part]] = []
        if self.mediator is not None:
            looking += _look_at_mediator(reactor, self.mediator, self.interface)
        if self.lan:
            looking.append(
                Deferred.fromCoroutine(_look_at_lan(reactor, self.interface))
            )
        parts = [*await gatherResults(looking), self._look_at_identity()]
        if self["json"]:
            report: dict[str, Any] = {part.name: part.values for part in parts}
            report["mediator"] = self.mediator and str(self.mediator)
            console.result_event(report)
        else:
            named = self.mediator or (
                "none named; use --mediator HOST[:PORT] or DWCLOUD_MEDIATOR"
            )
            console.line(f"mediator  {named}")
            for part in parts:
                console.line(f"{part.name:<8}  {part.text}")
        return 0 if all(part.ok for part in parts) else 1

    def _look_at_identity(self) -> Part:
        directory = self.identity_directory
        try:
            identity = ServerIdentity.load(directory)
        except ConfigurationError as e:
            if directory.exists():
                values = {"identity": str(directory), "error": str(e)}
                return Part("identity", False, f"cannot be used: {e}", values)
            text = f"none in {directory}; 'dwcloud serve' makes one on first use"
            return Part("identity", True, text, {"identity": None})
        text = f"{identity.name} in {directory}"
        return Part("identity", True, text, describe(identity, directory))


def _look_at_mediator(
    reactor: Any, mediator: MediatorAddress, interface: str
) -> list[Deferred[Part]]:
    advice = {
        "udp": f"allow UDP to port {mediator.port}, without it no direct path "
        "through NATs is possible",
        "tcp": f"check --mediator, and allow TCP to port {mediator.port}",
    }
    asking = {"udp": _ask_udp, "tcp": _ask_tcp}
    parts = []
    for name, ask in asking.items():
        asked = Deferred.fromCoroutine(ask(reactor, mediator, interface))
        asked.addErrback(_unreachable, name, advice[name])
        parts.append(asked)
    return parts


def _unreachable(reason: Failure, name: str, advice: str) -> Part:
    if not is_expected(reason):
        reason.raiseException()
    return Part(
        name,
        False,
        f"no answer: {reason.getErrorMessage()}; {advice}",
        {"reachable": False, "error": one_line(reason)},
    )


def _answered(name: str, answer: STUNMessage, seconds: float) -> Part:
    address = str(reflexive_address(answer))
    milliseconds = round(seconds * 1000, 2)
    return Part(
        name,
        True,
        f"answers in {milliseconds:.1f} ms, sees this machine as {address}",
        {
            "reachable": True,
            "round_trip_ms": milliseconds,
            "reflexive_address": address,
        },
    )


async def _ask_udp(reactor: Any, mediator: MediatorAddress, interface: str) -> Part:
    host = await _resolved(reactor, mediator.host)
    port = SharedUDPPort(reactor, interface=interface)
    client = STUNDatagramClient(reactor, port.sendDatagram)
    port.onSTUN = lambda data, address: _heard(client, data, address)
    port.start()
    try:
        return await _timed(
            reactor,
            "udp",
            lambda: client.request(
                binding_request(os.urandom(12)), (host, mediator.port), timing=_TIMING
            ),
        )
    finally:
        client.stop()
        await port.stop()


def _heard(client: STUNDatagramClient, data: bytes, address: Address) -> None:
    client.datagramReceived(data, address)


async def _ask_tcp(reactor: Any, mediator: MediatorAddress, interface: str) -> Part:
    endpoint = HostnameEndpoint(
        reactor,
        mediator.host,
        mediator.port,
        timeout=_TCP_TIMEOUT,
        bindAddress=(interface, 0) if interface else None,
    )
    connection = STUNStreamProtocol(reactor, _Receiver())
    await connectProtocol(endpoint, connection)
    try:
        return await _timed(
            reactor,
            "tcp",
            lambda: connection.request(
                binding_request(os.urandom(12)), timeout=_TCP_TIMEOUT
            ),
        )
    finally:
        connection.abortConnection()


async def _timed(
    reactor: Any, name: str, ask: Callable[[], Deferred[STUNMessage]]
) -> Part:
    started = reactor.seconds()
    answer = await ask()
    return _answered(name, answer, reactor.seconds() - started)


async def _resolved(reactor: Any, host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return str(await reactor.resolve(host))


async def _look_at_lan(reactor: Any, interface: str) -> Part:
    table = LANTable(reactor, [interface] if interface else lan_interfaces())
    table.start()
    try:
        await deferLater(reactor, _LAN_WAIT)
        entries = table.entries()
    finally:
        await table.stop()
    found = [{"peer": str(e.server), "address": str(e.address)} for e in entries]
    lines = [f"{each['peer']} at {each['address']}" for each in found]
    text = "no server heard; it must run in this network, and multicast must pass"
    if lines:
        text = "\n          ".join(lines)
    return Part("lan", True, text, {"servers": found})
