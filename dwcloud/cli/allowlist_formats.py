"""Allow lists as text for people, CSV for tables, JSON for programs, nft for Linux."""

from __future__ import annotations

import csv
import io
import ipaddress
import re
from collections.abc import Sequence
from typing import Any

from dwcloud.cli.failures import CommandFailed
from dwcloud.cli.table import render_table
from dwcloud.peer.allowlist import ANYWHERE, PRIVATE_NETWORKS, Admission, Direction
from dwcloud.peer.allowlist_examination import Verdict

__all__ = ["as_csv", "as_dicts", "as_nft", "as_text"]

_WORDS = {True: "yes", False: "no", None: "unknown"}
_COLUMNS = ["need", "direction", "protocol", "host", "addresses", "ports", "purpose"]
_NFT_COMMENT = 120
"""Characters of a comment; nft takes 128."""


def _rows(
    admissions: Sequence[Admission], verdicts: Sequence[Verdict] | None
) -> tuple[list[str], list[list[str]]]:
    header = list(_COLUMNS)
    rows = [
        [
            admission.need.value,
            admission.direction.value,
            admission.protocol,
            admission.host,
            " ".join(admission.addresses),
            admission.ports,
            admission.purpose,
        ]
        for admission in admissions
    ]
    if verdicts is not None:
        header += ["reachable", "why"]
        for row, verdict in zip(rows, verdicts, strict=True):
            row += [_WORDS[verdict.reachable], verdict.reason]
    return header, rows


def as_text(
    admissions: Sequence[Admission], verdicts: Sequence[Verdict] | None
) -> list[str]:
    """A table; addresses are left out that are told by the host already."""
    header, rows = _rows(admissions, verdicts)
    place, ports = header.index("addresses"), header.index("ports")
    for row, admission in zip(rows, admissions, strict=True):
        if admission.addresses in ((admission.host,), PRIVATE_NETWORKS):
            row[place] = ""
        if admission.source_port is not None:
            row[ports] += f" (from {admission.source_port})"
    if not any(row[place] for row in rows):
        header = header[:place] + header[place + 1 :]
        rows = [row[:place] + row[place + 1 :] for row in rows]
    return render_table(header, rows)


def as_csv(
    admissions: Sequence[Admission], verdicts: Sequence[Verdict] | None
) -> list[str]:
    """Comma-separated values with a header (RFC 4180)."""
    header, rows = _rows(admissions, verdicts)
    place = header.index("ports")
    header.insert(place, "source_port")
    for row, admission in zip(rows, admissions, strict=True):
        row.insert(place, str(admission.source_port or ""))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue().splitlines()


def as_dicts(
    admissions: Sequence[Admission], verdicts: Sequence[Verdict] | None
) -> list[dict[str, Any]]:
    """Plain values, for JSON."""
    found: list[dict[str, Any]] = []
    for number, admission in enumerate(admissions):
        first, _, last = admission.ports.partition("-")
        line: dict[str, Any] = {
            "need": admission.need.value,
            "direction": admission.direction.value,
            "protocol": admission.protocol,
            "host": admission.host,
            "addresses": list(admission.addresses),
            "first_port": int(first),
            "last_port": int(last or first),
            "source_port": admission.source_port,
            "purpose": admission.purpose,
        }
        if verdicts is not None:
            line["reachable"] = verdicts[number].reachable
            line["reason"] = verdicts[number].reason
        found.append(line)
    return found


def as_nft(
    admissions: Sequence[Admission], verdicts: Sequence[Verdict] | None, table: str
) -> list[str]:
    """Two chains of a table of nftables, ``dwcloud_out`` and ``dwcloud_in``.

    They replace those of before; other chains of the table stay.

    :param table: its name; the family is ``inet``.
    :raises CommandFailed: if a name has no address, as a rule needs one.
    """
    chains = {direction: f"dwcloud_{direction.value}" for direction in Direction}
    lines = [
        "# What dwcloud needs. Load this by 'nft -f FILE' and go there from chains of",
        "# the same table, in which replies are admitted already:",
        "#     ct state established,related accept",
        "#     jump dwcloud_out    (or dwcloud_in, for what comes in)",
        f"table inet {table} {{",
        *(f"    chain {chain} {{ }}" for chain in chains.values()),
        "}",
        *(f"flush chain inet {table} {chain}" for chain in chains.values()),
        f"table inet {table} {{",
    ]
    for direction, chain in chains.items():
        lines.append(f"    chain {chain} {{")
        for number, admission in enumerate(admissions):
            if admission.direction is direction:
                verdict = None if verdicts is None else verdicts[number]
                lines += _nft_rules(admission, verdict)
        lines.append("    }")
    return [*lines, "}"]


def _nft_rules(admission: Admission, verdict: Verdict | None) -> list[str]:
    ports = f"{admission.protocol} dport {admission.ports}"
    if admission.source_port is not None:
        ports = f"{admission.protocol} sport {admission.source_port} {ports}"
    text = f"{admission.need.value}: {admission.purpose}, {admission.host}"
    # A relay's name comes from the mediator: nothing of it may end the comment.
    comment = re.sub(r"[^A-Za-z0-9 .,:;()/-]", "_", text)[:_NFT_COMMENT]
    rule = f'{ports} accept comment "{comment}"'
    lines = []
    if verdict is not None:
        why = " ".join(verdict.reason.split())
        lines.append(f"        # reachable: {_WORDS[verdict.reachable]}, {why}")
    if admission.host == ANYWHERE:
        return [*lines, f"        {rule}"]
    if not admission.addresses:
        raise CommandFailed(
            f"{admission.host} has no address, which a rule for nft needs; check the "
            "name, or ask where it can be resolved"
        )
    side = "daddr" if admission.direction is Direction.OUT else "saddr"
    for version, family in ((4, "ip"), (6, "ip6")):
        found = [
            text
            for text in admission.addresses
            if ipaddress.ip_network(text.partition("%")[0]).version == version
        ]
        if found:
            where = found[0] if len(found) == 1 else f"{{ {', '.join(found)} }}"
            lines.append(f"        {family} {side} {where} {rule}")
    return lines
