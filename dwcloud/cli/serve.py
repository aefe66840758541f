"""``dwcloud serve``: publish TCP services of this machine or its network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint

from dwcloud.cli.console import Console
from dwcloud.cli.options import (
    Endpoint,
    IdentityOptions,
    NetworkOptions,
    read_endpoint,
    read_port,
    read_service_name,
    require,
    value_of,
)
from dwcloud.cli.running import begin_logging, run, until_interrupted
from dwcloud.net.identity import ServerIdentity
from dwcloud.peer.server import CloudServer
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
    ]
    optParameters = [
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
    ]
    services: dict[str, Endpoint]

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
        identity = ServerIdentity.load_or_create(self.identity_directory)
        begin_logging(self["verbose"])

        async def command(reactor: Any) -> int:
            return await self._serve(reactor, identity, console)

        return run(self.command, command, console)

    async def _serve(
        self, reactor: Any, identity: ServerIdentity, console: Console
    ) -> int:
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
            plainServices=self.plain_services,
            onEvent=on_event,
        )
        try:
            server.privilegedStartService()
            self._introduce(console, server)
            server.startService()
            return await until_interrupted()
        finally:
            await maybeDeferred(server.stopService)

    def _introduce(self, console: Console, server: CloudServer) -> None:
        """Say who this is, and what to type elsewhere."""
        peer = server.identity.name
        if self["json"]:
            console.result_event(
                {
                    "event": "serving",
                    "peer": str(peer),
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
        console.line("on another machine:")
        console.line(f"  dwcloud forward {peer} {forwardings} {where}")
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
                self._say(f"online; relays: {relays}")
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
