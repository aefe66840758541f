"""What ``dwcloud check`` prints: a page for people, or one object of JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs

from dwcloud.cli.table import render_table
from dwcloud.peer.advice import behind_carrier
from dwcloud.peer.diagnosis import Diagnosis
from dwcloud.peer.findings import Findings, MethodFinding, Reach, plain
from dwcloud.peer.surroundings import tidy
from dwcloud.protocol.nat import NATBehaviour

__all__ = ["as_json", "render"]

_WIDTH = 79
_LABEL = 12
_BOLD, _GOOD, _BAD, _END = "\x1b[1m", "\x1b[32m", "\x1b[31m", "\x1b[0m"


def as_json(findings: Findings, diagnosis: Diagnosis) -> dict[str, Any]:
    """Return all of it with stable keys; see docs/reference/commands."""
    values = plain(findings)
    nat = findings.nat
    values["nat"] = {
        **(plain(nat) if nat is not None else {}),
        "kind": diagnosis.kind,
        "plain": diagnosis.nat,
        "translated": None if nat is None else nat.translated,
        "carrier_nat": behind_carrier(findings),
        "reason": values.pop("nat_reason"),
    }
    values["tcp"]["way"] = values.pop("way")
    values["mediator"] = findings.mediator or None
    if findings.peer is not None:
        values["peer"]["state"] = findings.peer.state.value
        values["peer"]["nat"] = (
            None
            if findings.peer.nat is None
            else {
                **plain(findings.peer.nat),
                "kind": findings.peer.nat.kind,
            }
        )
    return {
        "event": "check",
        "possible": diagnosis.possible,
        "path": diagnosis.path,
        "verdict": diagnosis.verdict,
        "why": list(diagnosis.why),
        "advice": list(diagnosis.advice),
        "unknown": list(diagnosis.unknown),
        "expectations": plain(diagnosis.expectations),
        **values,
    }


def render(
    findings: Findings, diagnosis: Diagnosis, *, decorated: bool = False
) -> list[str]:
    """Return the lines of the page.

    :param decorated: whether to use bold and colour.
    """
    page = _Page(decorated)
    page.section("Mediator", findings.mediator or "none named")
    if findings.mediator:
        _mediator(page, findings)
    page.section("NAT", diagnosis.kind)
    _nat(page, findings, diagnosis)
    page.section("Around here")
    _surroundings(page, findings)
    if findings.methods:
        page.section("Ways to carry a stream")
        page.table(
            ("to", "by", "ms", "result"), list(_methods(findings.methods)), right=(2,)
        )
    if diagnosis.expectations:
        page.section("Paths to expect")
        page.table(
            ("to a server behind", "path"),
            [(e.words, e.path) for e in diagnosis.expectations],
        )
        reasons = (f"{e.path}: {e.why}" for e in diagnosis.expectations)
        page.items(dict.fromkeys(reasons))
    if findings.peer is not None:
        _peer(page, findings)
    page.verdict(diagnosis.verdict, diagnosis.possible)
    page.list("Why", diagnosis.why)
    page.list("What to change", diagnosis.advice)
    page.list("Not known", diagnosis.unknown)
    return page.lines


@attrs.define
class _Page:
    """Lines, put together."""

    decorated: bool
    lines: list[str] = attrs.field(factory=list)

    def _style(self, text: str, *styles: str) -> str:
        return f"{''.join(styles)}{text}{_END}" if self.decorated else text

    def section(self, title: str, value: str = "") -> None:
        """Begin something new."""
        if self.lines:
            self.lines.append("")
        title = title.ljust(_LABEL + 2) if value else title
        self.lines.append(self._style(title, _BOLD) + value)

    def row(self, label: str, text: str) -> None:
        """A labelled value, on several lines if it is long."""
        indent = " " * (_LABEL + 2)
        wrapped = _wrap(text, _WIDTH - len(indent)) or [""]
        self.lines.append(f"  {label.ljust(_LABEL)}{wrapped[0]}")
        self.lines += [indent + line for line in wrapped[1:]]

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        right: Sequence[int] = (),
    ) -> None:
        """Aligned columns, the last one on several lines if it is long."""
        used = sum(
            2 + max(len(row[column]) for row in (header, *rows))
            for column in range(len(header) - 1)
        )
        lines = []
        for *cells, last in rows:
            first, *more = _wrap(last, max(_WIDTH - 2 - used, 30)) or [""]
            lines.append((*cells, first))
            lines += [(*("" for _ in cells), each) for each in more]
        self.lines += [f"  {line}" for line in render_table(header, lines, right)]

    def list(self, title: str, sentences: Iterable[str]) -> None:
        """A list of sentences, if there are any."""
        sentences = tuple(sentences)
        if not sentences:
            return
        self.section(title)
        self.items(sentences)

    def items(self, texts: Iterable[str]) -> None:
        """Texts one below the other."""
        for text in texts:
            self.lines += textwrap.wrap(
                text, _WIDTH, initial_indent="  - ", subsequent_indent="    "
            )

    def verdict(self, sentence: str, good: bool) -> None:
        """The sentence that matters."""
        self.section("Result")
        colour = _GOOD if good else _BAD
        self.lines += [
            "  " + self._style(line, _BOLD, colour)
            for line in textwrap.wrap(sentence, _WIDTH - 2)
        ]


def _wrap(text: str, width: int) -> list[str]:
    """Lines that break no name or address."""
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)


def _mediator(page: _Page, findings: Findings) -> None:
    page.row("UDP", _reach(findings.udp))
    way = f", by {findings.way}" if findings.way else ""
    page.row("TCP", _reach(findings.tcp) + way)
    for relay in findings.relays:
        where = f"{relay.url}{' (assumed)' if relay.assumed else ''}: "
        page.row("relay", where + _reach(relay.reach))


def _reach(reach: Reach) -> str:
    if not reach.works or reach.seconds is None:
        return reach.reason or "not tried"
    seen = "" if reach.address is None else f", sees this machine as {reach.address}"
    return f"answers in {reach.seconds * 1000:.1f} ms{seen}"


def _nat(page: _Page, findings: Findings, diagnosis: Diagnosis) -> None:
    page.row("", diagnosis.nat)
    nat = findings.nat
    if nat is None or not nat.udp:
        return
    page.row("here", str(nat.local_address or "not known"))
    page.row("outside", str(nat.mapped_address or "not known"))
    page.row("mapping", "not known" if nat.mapping is None else nat.mapping.value)
    filtering = nat.filtering
    page.row("filtering", "not known" if filtering is None else filtering.value)
    page.row("ports", _ports(nat))
    page.row(
        "hairpinning", {True: "yes", False: "no", None: "not known"}[nat.hairpinning]
    )
    if behind_carrier(findings):
        page.row("carrier", "a second NAT, of the Internet provider")


def _ports(nat: NATBehaviour) -> str:
    if nat.port_step:
        return f"in sequence, in steps of {nat.port_step}"
    return "the same outside as inside" if nat.port_preservation else "others outside"


def _surroundings(page: _Page, findings: Findings) -> None:
    for finding in findings.port_mapping:
        text = finding.reason
        if finding.found:
            text = f"the router forwards ports, its address is {finding.external}"
        page.row(finding.protocol, text)
    ipv6 = findings.ipv6
    addresses = ", ".join(ipv6.addresses)
    text = _reach(ipv6.mediator)
    page.row("IPv6", f"{addresses}; mediator: {text}" if addresses else text)
    for name, address in findings.lan.servers:
        page.row("LAN", f"{name} at {address}")
    if not findings.lan.servers:
        page.row("LAN", findings.lan.reason or "not looked at")
    for proxy in findings.proxies:
        wants = ""
        if proxy.authentication is not None:
            schemes = ", ".join(proxy.authentication)
            wants = f", wants a password ({schemes})" if schemes else ", open to all"
        works = "works" if proxy.works else proxy.reason
        page.row("proxy", f"{proxy.proxy}, named by {proxy.source}{wants}: {works}")
    if not findings.proxies:
        page.row("proxy", "none named")


def _methods(methods: Sequence[MethodFinding]) -> Iterator[tuple[str, str, str, str]]:
    """The rows of the table; a service whose methods all fail alike gets one."""
    for target in dict.fromkeys((m.service, m.url) for m in methods):
        group = [m for m in methods if (m.service, m.url) == target]
        name = " ".join(target)
        reasons = {m.reason for m in group}
        if len(group) > 1 and len(reasons) == 1 and not any(m.works for m in group):
            yield name, "all", "", reasons.pop()
            continue
        for method in group:
            by = method.method
            if method.carrier != "direct":
                by += f" ({method.carrier})"
            if method.works:
                yield name, by, f"{method.seconds * 1000:.0f}", "works"
            else:
                yield name, by, "", method.reason or "not tried"
            name = ""


def _peer(page: _Page, findings: Findings) -> None:
    peer = findings.peer
    assert peer is not None
    page.section("Server", peer.report.peer)
    page.row("state", peer.state.value)
    if peer.nat is not None:
        page.row("its NAT", peer.nat.kind)
    if peer.report.path is not None:
        page.row("path", f"{peer.report.path.value} to {peer.report.remote_address}")
    for failure in peer.report.failures:
        page.row("failed", f"{failure.attempt}: {tidy(failure.reason)}")
