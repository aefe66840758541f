"""``dwcloud status``: what of the cloud can be reached from here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from dwcloud.cli.console import Console
from dwcloud.cli.options import (
    IdentityOptions,
    NetworkOptions,
    read_peer,
    require,
    value_of,
)
from dwcloud.cli.probes import Part, look_at_lan, look_at_mediator, look_at_peer
from dwcloud.cli.running import begin_logging, run
from dwcloud.cli.system import describe
from dwcloud.errors import ConfigurationError
from dwcloud.net.identity import ServerIdentity
from dwcloud.protocol.names import PeerName

__all__ = ["StatusCommand"]


class StatusCommand(NetworkOptions, IdentityOptions):
    """``dwcloud status``."""

    command = "dwcloud status"
    synopsis = "[PEER] [--mediator HOST[:PORT]] [--identity DIR] [--json]"
    longdesc = (
        "Tell whether the mediator answers over UDP and TCP and how this machine looks "
        "from there, who this machine is, which servers are on the LAN, and whether "
        "the server PEER is online. The exit code is 0 if all that was asked for "
        "answers."
    )
    optFlags = [["json", None, "Print one line of JSON instead."]]

    peer: PeerName | None = None

    def parseArgs(self, *words: str) -> None:
        """Take the peer's name, if there is one."""
        require(len(words) <= 1, "expected at most one PEER")
        if words:
            self.peer = value_of("PEER", read_peer)(words[0])

    def postOptions(self) -> None:
        """Everything may be left out here; only who asks for a peer asks somebody."""
        require(
            self.mediator is not None or self.peer is None,
            "name the mediator that knows PEER: --mediator HOST[:PORT]",
        )
        IdentityOptions.postOptions(self)

    def run(self, console: Console) -> int:
        """Look, and print what there is."""
        begin_logging(self["verbose"])

        async def command(reactor: Any) -> int:
            return await self._look(reactor, console)

        return run(self.command, command, console)

    async def _look(self, reactor: Any, console: Console) -> int:
        looking: list[Deferred[Part]] = []
        if self.mediator is not None:
            looking += look_at_mediator(
                reactor, self.mediator, self.interface, self.proxies
            )
            if self.peer is not None:
                asking = look_at_peer(reactor, self.mediator, self.peer, self.interface)
                looking.append(Deferred.fromCoroutine(asking))
        if self.lan:
            looking.append(Deferred.fromCoroutine(look_at_lan(reactor, self.interface)))
        parts = [*await _all(looking), self._look_at_identity()]
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


async def _all(looking: Sequence[Deferred[Part]]) -> list[Part]:
    """All results, when nothing is being looked at any more.

    That is so also when the command is cancelled, which cancels each look.
    """
    parts = []
    for _, result in await DeferredList(looking, consumeErrors=True):
        if isinstance(result, Failure):
            result.raiseException()
        parts.append(result)
    return parts
