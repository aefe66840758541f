"""``dwcloud check``: which paths work here, why, and what to change."""

from __future__ import annotations

from typing import Any

from dwcloud.cli.check_report import as_json, render
from dwcloud.cli.cloud_access import find_peer
from dwcloud.cli.command import require
from dwcloud.cli.console import Console
from dwcloud.cli.options import (
    MEDIATOR_VARIABLE,
    NetworkOptions,
    read_peer,
    read_seconds,
    value_of,
)
from dwcloud.cli.running import begin_logging, run
from dwcloud.cli.token_options import TokenOptions
from dwcloud.peer.diagnosis import diagnose
from dwcloud.peer.examination import Examination
from dwcloud.peer.system_names import SystemReference
from dwcloud.protocol.names import PeerName

__all__ = ["CheckCommand"]

_ERASE = "\r\x1b[K"


class CheckCommand(TokenOptions, NetworkOptions):
    """``dwcloud check``."""

    command = "dwcloud check"
    synopsis = "[PEER] [--mediator HOST[:PORT]] [--proxy PROXY] [--json] [options]"
    longdesc = (
        "Find out how the NAT here behaves, by which ways mediator and relays are "
        "reached, and which path a connection to PEER takes, or which ones can be "
        "expected to others; tell why, and what to change. The exit code is 0 if a "
        "connection is possible."
    )
    optFlags = [["json", None, "Print one line of JSON instead."]]
    optParameters = [
        [
            "timeout",
            "t",
            10.0,
            "Seconds for all of it.",
            value_of("--timeout", read_seconds),
        ],
    ]
    examples = (
        "  dwcloud check --mediator HOST\n"
        "  dwcloud check PEER --mediator HOST --proxy proxy.example.org:3128\n"
    )

    peer: PeerName | SystemReference | None = None

    def parseArgs(self, *words: str) -> None:
        """Take the peer's name, if there is one."""
        require(len(words) <= 1, "expected at most one PEER")
        if words:
            self.peer = value_of("PEER", read_peer)(words[0])

    def run(self, console: Console) -> int:
        """Examine, and print what it means."""
        begin_logging(self["verbose"], self["log-format"])

        async def command(reactor: Any) -> int:
            return await self._check(reactor, console)

        return run(self.command, command, console)

    async def _check(self, reactor: Any, console: Console) -> int:
        limit = float(self["timeout"])
        peer, account = None, None
        if self.peer is not None:
            peer, account = await find_peer(reactor, self, console, self.peer)
        examination = Examination(
            reactor=reactor,
            mediator=self.mediator,
            peer=peer,
            grants=account,
            interface=self.interface,
            lan=self.lan,
            proxies=self.proxies,
            proxy_source="--proxy" if self["proxy"] is not None else "the environment",
            method=self.method,
            memory=self.method_memory,
            limit=limit,
        )
        if console.interactive:
            console.draw(f"examining this network, for up to {limit:g} s ...")
        try:
            findings = await examination.start()
        finally:
            if console.interactive:
                console.draw(_ERASE)
            if account is not None:
                account.close()
        diagnosis = diagnose(findings)
        if self["json"]:
            console.result_event(as_json(findings, diagnosis))
        else:
            for line in render(findings, diagnosis, decorated=console.decorated):
                console.line(line)
            if not findings.mediator:
                console.line(f"(--mediator or {MEDIATOR_VARIABLE} names a mediator)")
        return 0 if diagnosis.possible else 1
