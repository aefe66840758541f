"""``dwcloud allowlist``: what a firewall has to admit for a cloud."""

from __future__ import annotations

import json
import re
from typing import Any

import attrs

from dwcloud.cli.allowlist_formats import as_csv, as_dicts, as_nft, as_text
from dwcloud.cli.command import require
from dwcloud.cli.console import Console
from dwcloud.cli.options import NetworkOptions, one_of, read_port, value_of
from dwcloud.cli.running import begin_logging, run
from dwcloud.errors import ConfigurationError
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.peer.allowlist import Admission, Need, admissions, hosts_of
from dwcloud.peer.allowlist_examination import (
    Verdict,
    find_other_address,
    resolve_hosts,
    try_all,
)
from dwcloud.peer.mediator_address import resolve_relay_url
from dwcloud.peer.service_examination import ask_for_relays
from dwcloud.peer.surroundings import Surroundings
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = ["AllowlistCommand"]

_LIMIT = 15.0
"""Seconds for asking, and as many for trying."""

_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,30}")


def _read_table(text: str) -> str:
    if not _TABLE.fullmatch(text):
        raise ValueError(
            f"{text!r} is not the name of a table: expected letters, digits and '_', "
            "such as filter"
        )
    return text


def _read_needs(text: str) -> tuple[Need, ...]:
    try:
        return tuple(Need(word) for word in text.split(","))
    except ValueError:
        names = ", ".join(need.value for need in Need)
        raise ValueError(f"{text!r} is not a list of some of: {names}") from None


class AllowlistCommand(NetworkOptions):
    """``dwcloud allowlist``."""

    command = "dwcloud allowlist"
    synopsis = "--mediator HOST[:PORT] [--format text|csv|nft|json] [--test]"
    longdesc = (
        "List the names, ports and protocols that a firewall has to admit, so that "
        "servers and clients of this cloud work behind it. Relays and a second address "
        "of the mediator are asked for, so that it is best run where nothing is "
        "blocked; "
        "--test, run behind the firewall, tells of each line whether it is admitted. "
        "The exit code is 1 if relays could not be asked for, or if something required "
        "is not reached."
    )
    examples = (
        "  dwcloud allowlist --mediator HOST --test\n"
        "  dwcloud allowlist --mediator HOST --only required,direct --format nft\n"
    )
    optFlags = [["test", None, "Try each line from here, and tell why it fails."]]
    optParameters = [
        [
            "format",
            "f",
            "text",
            "text, csv, json, or nft: rules for nftables.",
            one_of("--format", "text", "csv", "nft", "json"),
        ],
        [
            "only",
            None,
            None,
            f"Only lines of these kinds: {', '.join(Need)}.",
            value_of("--only", _read_needs),
        ],
        [
            "tcp-port",
            None,
            0,
            "The port that 'dwcloud serve --tcp-port' takes connections at.",
            value_of("--tcp-port", read_port),
        ],
        [
            "udp-port",
            None,
            0,
            "The port that 'dwcloud serve --udp-port' punches holes from.",
            value_of("--udp-port", read_port),
        ],
        [
            "table",
            None,
            "filter",
            "The table of nftables, of family inet, for the rules.",
            value_of("--table", _read_table),
        ],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._urls: list[ServiceURL] = []

    def opt_relay(self, text: str) -> None:
        """A relay such as http://HOST:3349, in place of the announced. Repeatable."""
        self._urls.append(value_of("--relay", ServiceURL.parse)(text))

    def run(self, console: Console) -> int:
        """Ask, list, and try if that is wanted."""
        begin_logging(self["verbose"], self["log-format"])

        async def command(reactor: Any) -> int:
            return await self._list(reactor, console)

        return run(self.command, command, console)

    def postOptions(self) -> None:
        """A list without a mediator is of no use."""
        super().postOptions()
        require(self.mediator is not None, "name the mediator: --mediator HOST[:PORT]")

    async def _list(self, reactor: Any, console: Console) -> int:
        here = self._surroundings(reactor)
        try:
            return await self._list_from(here, console)
        finally:
            here.proxies.tunnels.stop()

    async def _list_from(self, here: Surroundings, console: Console) -> int:
        mediator = here.mediator
        assert mediator is not None
        relays, unknown = await self._relays(here, console)
        addresses = await resolve_hosts(here, hosts_of(mediator, relays))
        other = await find_other_address(here, addresses[mediator.host])
        listed = [
            admission
            for admission in admissions(
                mediator,
                relays,
                other=other,
                addresses=addresses,
                lan=self.lan,
                tcp_port=self["tcp-port"],
                udp_port=self["udp-port"],
            )
            if self["only"] is None or admission.need in self["only"]
        ]
        verdicts = None
        if self["test"]:
            later = attrs.evolve(here, ends=here.reactor.seconds() + _LIMIT)
            verdicts = await try_all(later, listed, other)
        for line in self._formatted(listed, verdicts):
            console.line(line)
        missed = [
            admission
            for admission, verdict in zip(listed, verdicts or (), strict=False)
            if admission.need is Need.REQUIRED and verdict.reachable is False
        ]
        return 1 if unknown or missed else 0

    def _surroundings(self, reactor: Any) -> Surroundings:
        return Surroundings(
            reactor=reactor,
            mediator=self.mediator,
            interface=self.interface,
            proxies=Proxies(reactor, self.proxies),
            ends=reactor.seconds() + _LIMIT,
            limit=_LIMIT,
        )

    async def _relays(
        self, here: Surroundings, console: Console
    ) -> tuple[list[ServiceURL], bool]:
        """Return the relays, and whether they are not known."""
        if self._urls:
            return self._urls, False
        assert here.mediator is not None
        announced = await ask_for_relays(here)
        if announced is None:
            console.message(
                f"{self.command}: mediator {here.mediator} does not tell its relays, "
                "so that they are missing from the list; ask from elsewhere, or name "
                "them by --relay"
            )
            return [], True
        urls = []
        for text in announced:
            try:
                urls.append(ServiceURL.parse(resolve_relay_url(text, here.mediator)))
            except (ConfigurationError, ValueError) as e:
                console.message(f"{self.command}: a relay that nobody can use: {e}")
        return urls, False

    def _formatted(
        self, listed: list[Admission], verdicts: list[Verdict] | None
    ) -> list[str]:
        match self["format"]:
            case "csv":
                return as_csv(listed, verdicts)
            case "nft":
                return as_nft(listed, verdicts, self["table"])
            case "json":
                return [json.dumps(as_dicts(listed, verdicts))]
        return as_text(listed, verdicts)
