"""``dwcloud status``: what of the cloud can be reached from here."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.python.failure import Failure

from dwcloud.cli.cloud_access import find_peer
from dwcloud.cli.command import require
from dwcloud.cli.console import Console
from dwcloud.cli.options import IdentityOptions, NetworkOptions, read_peer, value_of
from dwcloud.cli.probes import Part, look_at_lan, look_at_mediator, look_at_peer
from dwcloud.cli.router_probe import look_at_router
from dwcloud.cli.running import begin_logging, run
from dwcloud.cli.system import describe
from dwcloud.cli.token_options import TokenOptions
from dwcloud.errors import CloudError, ConfigurationError
from dwcloud.net.identity import ServerIdentity
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.tunnel_selector import TunnelSelector
from dwcloud.peer.credentials import CredentialStore
from dwcloud.peer.known_clouds import cloud_name
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.system_names import SystemReference
from dwcloud.protocol.names import PeerName

__all__ = ["StatusCommand", "unless_all_fail"]


class StatusCommand(TokenOptions, NetworkOptions, IdentityOptions):
    """``dwcloud status``."""

    command = "dwcloud status"
    synopsis = "[PEER] [--mediator HOST[:PORT]] [--identity DIR] [--json]"
    longdesc = (
        "Tell whether the mediator answers over UDP and TCP and how this machine looks "
        "from there, who this machine is, which servers are on the LAN, and whether "
        "the server PEER is online. The exit code is 0 if all that was asked for "
        "answers."
    )
    optFlags = [
        ["json", None, "Print one line of JSON instead."],
        [
            "router",
            None,
            "Try, too, whether the router forwards ports; that may take 12 seconds.",
        ],
    ]

    peer: PeerName | SystemReference | None = None

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
        begin_logging(self["verbose"], self["log-format"])

        async def command(reactor: Any) -> int:
            return await self._look(reactor, console)

        return run(self.command, command, console)

    async def _look(self, reactor: Any, console: Console) -> int:
        def show(part: Part) -> Part:
            if not self["json"]:
                console.line(f"{part.name:<8}  {part.text}")
            return part

        if not self["json"]:
            named = self.mediator or (
                "none named; use --mediator HOST[:PORT] or DWCLOUD_MEDIATOR"
            )
            console.line(f"mediator  {named}")
        here = [show(self._look_at_account()), show(self._look_at_identity())]
        parts = [*await _all(self._looks(reactor, console, show)), *here]
        if self["json"]:
            report: dict[str, Any] = {part.name: part.values for part in parts}
            report["mediator"] = self.mediator and str(self.mediator)
            console.result_event(report)
        return 0 if all(part.ok for part in parts) else 1

    def _looks(
        self, reactor: Any, console: Console, show: Callable[[Part], Part]
    ) -> list[Deferred[Part]]:
        """Begin to look at everything that was asked for.

        :param show: told each part as soon as it is known.
        """
        looking: list[Deferred[Part]] = []
        if self.lan:
            lan = Deferred.fromCoroutine(look_at_lan(reactor, self.interface))
            looking.append(lan.addCallback(show))
        if self.mediator is not None:
            looks = look_at_mediator(
                reactor, self.mediator, self.interface, self.proxies
            )
            looking += [look.addCallback(show) for look in looks]
            if self.peer is not None:
                asking = self._look_at_peer(reactor, console, self.mediator, self.peer)
                peer = unless_all_fail(asking, looks)
                looking.append(peer.addCallback(show))
        if self["router"]:
            asking = look_at_router(reactor, self.interface)
            looking.append(Deferred.fromCoroutine(asking).addCallback(show))
        return looking

    async def _look_at_peer(
        self,
        reactor: Any,
        console: Console,
        mediator: MediatorAddress,
        reference: PeerName | SystemReference,
    ) -> Part:
        selector = TunnelSelector(reactor, method=self.method)
        try:
            peer, account = await find_peer(reactor, self, console, reference)
        except CloudError as e:
            return Part("peer", False, str(e), {"online": False, "error": str(e)})
        try:
            return await look_at_peer(
                reactor,
                mediator,
                peer,
                self.interface,
                Proxies(reactor, self.proxies, selector),
                account,
            )
        finally:
            if account is not None:
                account.close()

    def _look_at_account(self) -> Part:
        """Tell who is signed in, as far as this machine knows, or of a token."""
        try:
            if self.token is not None:
                used: dict[str, Any] = {"account": None, "token": True}
                text = "a token for one system, in place of an account"
                return Part("account", True, text, used)
        except ConfigurationError as e:
            wrong = {"account": None, "error": str(e)}
            return Part("account", False, str(e), wrong)
        mediator = self.mediator
        cloud = None if mediator is None else cloud_name(mediator)
        who = None if cloud is None else CredentialStore().signed_in(cloud)
        if who is None:
            values: dict[str, Any] = {"account": None}
            return Part("account", True, "not signed in", values)
        system = who.system and str(who.system)
        text = f"signed in to {cloud} as {who.account}"
        if system is not None:
            text += f"; '.' is system {system}"
        values = {"account": who.account, "cloud": cloud, "system": system}
        return Part("account", True, text, values)

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
        values = describe(identity, directory)
        if values["cloud"] is not None:
            text += f"; bound to {values['cloud']} as {values['name']}"
        return Part("identity", True, text, values)


def unless_all_fail(
    asking: Coroutine[Any, Any, Part], mediator: Sequence[Deferred[Part]]
) -> Deferred[Part]:
    """Ask for a server, until it is clear that the mediator does not answer.

    Why it does not is told once, by those who looked at it.

    :param mediator: the looks at the mediator.
    """
    peer = Deferred.fromCoroutine(asking)
    failed: list[Part] = []

    def looked(part: Part) -> Part:
        if not part.ok:
            failed.append(part)
        if len(failed) == len(mediator):
            peer.cancel()
        return part

    def ended(result: Part | Failure) -> Part | Failure:
        unreachable = len(failed) == len(mediator)
        if isinstance(result, Failure):
            if not (unreachable and result.check(CancelledError)):
                return result
        elif result.ok or not unreachable:
            return result
        text = "not asked for, as the mediator does not answer"
        return Part("peer", False, text, {"online": False, "error": text})

    for look in mediator:
        look.addCallback(looked)
    return peer.addBoth(ended)


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
