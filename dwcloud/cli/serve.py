"""``dwcloud serve``: publish TCP services of this machine or its network."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint

from dwcloud.cli.command import require
from dwcloud.cli.console import Console
from dwcloud.cli.options import (
    MEDIATOR_VARIABLE,
    Endpoint,
    IdentityOptions,
    NetworkOptions,
    read_endpoint,
    read_new_name,
    read_port,
    read_service_name,
    value_of,
)
from dwcloud.cli.running import begin_logging, run, until_interrupted
from dwcloud.net.identity import ServerIdentity
from dwcloud.net.identity_lock import exclusive_identity
from dwcloud.peer.cloud_membership import CloudMembership
from dwcloud.peer.known_clouds import cloud_name
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.port_mappings import METHODS, read_methods
from dwcloud.peer.server import CloudServer
from dwcloud.peer.server_access import ServerAccess
from dwcloud.peer.status import ServerEvent

__all__ = ["Narrator", "ServeCommand", "read_publication", "suggest_ports"]

_SUGGESTED_PORTS = {"http": 8080, "https": 8443, "ssh": 2222, "web": 8080}
_ANY_PORT = 8000


def read_publication(text: str) -> tuple[str, Endpoint]:
    """Read ``NAME=HOST:PORT``.

    :raises ValueError: if it is something else; the message says what would be right.
    """
    name, equals, where = text.partition("=")
    if not equals:
        raise ValueError(
            f"{text!r} has no '=': expected NAME=HOST:PORT such as web=127.0.0.1:8080"
        )
    endpoint = read_endpoint(where)
    if endpoint.port == 0:
        raise ValueError(f"{text!r}: port 0 cannot be connected to")
    return read_service_name(name), endpoint


def suggest_ports(names: Iterable[str]) -> dict[str, int]:
    """A local port for each service, for the command that a client may type."""
    ports: dict[str, int] = {}
    for name in names:
        port = _SUGGESTED_PORTS.get(name, _ANY_PORT)
        while port in ports.values():
            port += 1
        ports[name] = port
    return ports


class ServeCommand(NetworkOptions, IdentityOptions):
    """``dwcloud serve``."""

    command = "dwcloud serve"
    synopsis = "NAME=HOST:PORT... --mediator HOST[:PORT] [options]"
    longdesc = (
        "Publish each TCP service HOST:PORT, as seen from this machine, under NAME. "
        "The first start makes the identity of this server; every start prints the "
        "peer name to give to clients. Runs until it is interrupted."
    )
    examples = (
        "  dwcloud serve web=127.0.0.1:8080 --mediator HOST\n"
        "  dwcloud serve ssh=127.0.0.1:22 camera=192.168.1.20:554 --mediator HOST\n"
    )
    optFlags = [
        ["json", None, "Print each event as one line of JSON."],
        ["no-port-mapping", None, "Do not ask the router to forward ports."],
    ]
    optParameters = [
        [
            "name",
            None,
            None,
            "What the system is to be called at a cloud with accounts: it is bound to "
            "your account on first use. Who is not signed in is asked to.",
            value_of("--name", read_new_name),
        ],
        [
            "tcp-port",
            None,
            0,
            "Port for direct TCP connections, 0 for any.",
            value_of("--tcp-port", read_port),
        ],
        [
            "udp-port",
            None,
            0,
            "Port for UDP paths, 0 for any.",
            value_of("--udp-port", read_port),
        ],
        [
            "port-mapping",
            None,
            None,
            "Ask the router to forward both ports by this protocol only: "
            f"{', '.join(METHODS)}; or any, or no. Without this option, any.",
            value_of("--port-mapping", read_methods),
        ],
    ]
    services: dict[str, Endpoint]

    @property
    def mediator(self) -> MediatorAddress | None:
        """As for other commands, or that of the cloud that the system is bound to."""
        if self["mediator"] is None and not os.environ.get(MEDIATOR_VARIABLE):
            membership = CloudMembership.load(self.identity_directory)
            if membership is not None:
                return MediatorAddress.parse(membership.mediator)
        return super().mediator

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.plain_services: list[str] = []

    def opt_plain(self, name: str) -> None:
        """Let clients use this service without TLS, too; it encrypts by itself."""
        self.plain_services.append(name)

    def postOptions(self) -> None:
        """Refuse what does not fit together."""
        super().postOptions()
        for name in self.plain_services:
            require(name in self.services, f"--plain {name}: no such service is named")
        require(
            self["name"] is None or self.mediator is not None,
            f"--name needs a cloud: --mediator HOST[:PORT] or {MEDIATOR_VARIABLE}",
        )

    @property
    def port_mapping(self) -> tuple[str, ...]:
        """By which protocols the router may be asked."""
        if self["no-port-mapping"]:
            return ()
        chosen: tuple[str, ...] | None = self["port-mapping"]
        return METHODS if chosen is None else chosen

    def parseArgs(self, *words: str) -> None:
        """Take the services."""
        require(words, "name what to publish: NAME=HOST:PORT such as web=127.0.0.1:80")
        self.services = {}
        for word in words:
            name, endpoint = value_of("NAME=HOST:PORT", read_publication)(word)
            require(name not in self.services, f"service {name!r} is named twice")
            self.services[name] = endpoint

    def run(self, console: Console) -> int:
        """Publish until interrupted."""
        directory = self.identity_directory
        identity = ServerIdentity.load_or_create(directory)
        begin_logging(self["verbose"], self["log-format"])

        async def command(reactor: Any) -> int:
            return await self._serve(reactor, identity, console)

        with exclusive_identity(self.identity_directory):
            return run(self.command, command, console)

    async def _serve(
        self,
        reactor: Any,
        identity: ServerIdentity,
        console: Console,
    ) -> int:
        if self["name"] is not None:
            await self._bind(reactor, console)
        # Only now it is known to which cloud the system is bound.
        load = partial(
            ServerAccess.load, self.identity_directory, identity.name, reactor.seconds
        )
        tell = console.result_event if self["json"] else Narrator(console).tell

        def on_event(event: ServerEvent) -> None:
            tell(event.as_dict())

        server = CloudServer(
            reactor,
            identity,
            {
                name: HostnameEndpoint(reactor, where.host, where.port)
                for name, where in self.services.items()
            },
            self.mediator,
            tcp_port=self["tcp-port"],
            udp_port=self["udp-port"],
            interface=self.interface,
            lan=self.lan,
            proxies=self.proxies,
            method=self.method,
            memory=self.method_memory,
            plainServices=self.plain_services,
            onEvent=on_event,
            portMapping=self.port_mapping,
            loadAccess=load,
        )
        try:
            server.privilegedStartService()
            self._introduce(console, server)
            server.startService()
            return await until_interrupted()
        finally:
            await maybeDeferred(server.stopService)

    async def _bind(self, reactor: Any, console: Console) -> None:
        """Bind the system, unless it is."""
        # Late: few starts ask the cloud for something.
        from dwcloud.cli.cloud_access import CloudAccess
        from dwcloud.cli.system_cloud import bind_here

        assert self.mediator is not None
        directory = self.identity_directory
        membership = CloudMembership.load(directory)
        if membership is None or membership.mediator != cloud_name(self.mediator):
            access = CloudAccess(reactor, self, console)
            try:
                session = await access.session_or_ask()
                await bind_here(session, directory, self["name"])
            finally:
                access.close()
        elif membership.name != self["name"]:
            console.message(
                f"{self.command}: the system is bound already, as {membership.name}; "
                f"'dwcloud system rename {membership.name} {self['name']}' renames it"
            )

    def _introduce(self, console: Console, server: CloudServer) -> None:
        """Say who this is, and what to type elsewhere."""
        peer = server.identity.name
        membership = CloudMembership.load(self.identity_directory)
        if self["json"]:
            console.result_event(
                {
                    "event": "serving",
                    "peer": str(peer),
                    "name": membership and membership.name,
                    "services": {n: str(e) for n, e in self.services.items()},
                    "identity": str(self.identity_directory),
                    "tcp_port": server.tcp_port,
                    "udp_port": server.udp_port,
                }
            )
            return
        ports = suggest_ports(self.services)
        forwardings = " ".join(f"{port}:{name}" for name, port in ports.items())
        where = f"--mediator {self.mediator}" if self.mediator else "--path lan"
        console.line(f"peer name: {peer}")
        name = str(peer)
        if membership is not None:
            name = membership.name
            console.line(f"system: {name} at {membership.mediator}")
        console.line("on another machine:")
        console.line(f"  dwcloud forward {name} {forwardings} {where}")
        if self.mediator is None:
            console.message(
                f"{self.command}: no mediator is named, so this server is found only "
                "in its own network; --mediator HOST[:PORT] makes it reachable from "
                "anywhere"
            )


class Narrator:
    """Tells a person the events that need attention, once each."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ""

    def tell(self, event: dict[str, Any]) -> None:
        """Print what matters."""
        match event["event"]:
            case "online":
                relays = ", ".join(event["relays"]) or "none"
                failed = event.get("failed_ways", {})
                reasons = "; ".join(f"{way}: {why}" for way, why in failed.items())
                by = f" by {event['way']} ({reasons})" if failed else ""
                self._say(f"online{by}; relays: {relays}")
            case "offline":
                reason = event["reason"].rstrip(".")
                self._say(
                    f"offline: registering at the mediator failed: {reason}; trying "
                    "again (check --mediator if it stays so)"
                )
            case "relay" if event.get("reason"):
                relay = f"relay {event['url']}"
                # The reason may name the relay, as it is told elsewhere, too.
                reason = event["reason"].removeprefix(f"{relay}: ")
                self._say(f"{relay} is {event['state']}: {reason}")
            case "access" if not event["bound"]:
                self._say(
                    "no account owns this system, so nobody can connect; bind it: "
                    "dwcloud system bind"
                )
            case "access" if event.get("unchecked"):
                self._say(
                    "the system of this server belongs to an account, but the identity "
                    "here does not say so: whoever is in this network can connect; "
                    "copy cloud.json from where 'dwcloud system bind' was typed"
                )
            case "access" if event.get("streams_cut"):
                self._say(f"access has changed, streams cut: {event['streams_cut']}")
            case "stream_refused":
                self._say(
                    f"refused a stream by {event['path']} from "
                    f"{event['remote_address']}: {event['reason']}"
                )

    def _say(self, text: str) -> None:
        text = text.rstrip(".")
        if text != self._last:
            self._last = text
            self._console.message(f"dwcloud serve: {text}")
