"""The table of hole punching: what can come of which pair of NATs.

The simulator and the kernel matrix of ``tests/lab`` assert the same table.
"""

from __future__ import annotations

import itertools

__all__ = [
    "KINDS",
    "PAIRS",
    "TABLE",
    "can_be_guessed",
    "entry",
    "expected_later",
    "expected_paths",
]

KINDS = (
    "open",
    "firewall",
    "full-cone",
    "addr-restricted",
    "port-restricted",
    "linux-nofw",
    "symmetric",
    "symmetric-seq",
    "symmetric-addr",
    "symmetric-open",
)
"""In the order of the table."""

TABLE = """
    ok ok   ok ok ok   ok   ok ok   ok ok
    ok ok   ok ok ok   race no pred no no
    ok ok   ok ok ok   ok   ok ok   ok ok
    ok ok   ok ok ok   ok   ok ok   ok ok
    ok ok   ok ok ok   race no pred no no
    ok race ok ok race race no pred no no
    ok no   ok ok no   no   no no   no no
    ok pred ok ok pred pred no no   no no
    ok no   ok ok no   no   no no   no ok
    ok no   ok ok no   no   no no   ok ok
"""
"""``ok`` works if each end answers where packets come from, ``race`` depends on who is
first, ``pred`` needs the prediction of ports, and ``no`` the relay. All but ``no`` come
to a direct path, those that are not ``ok`` perhaps a moment after the first stream."""

PAIRS = tuple(itertools.combinations_with_replacement(KINDS, 2))
"""Each pair once."""

_ROWS = [line.split() for line in TABLE.strip().splitlines()]


def entry(first: str, second: str) -> str:
    """Return what the table says of two kinds."""
    return _ROWS[KINDS.index(first)][KINDS.index(second)]


def expected_paths(server: str, client: str) -> frozenset[str]:
    """Return the paths of which one has to carry a first stream."""
    found = entry(server, client)
    if found == "ok":
        # What anybody may connect to is reached by TCP as well.
        return frozenset({"udp", "tcp"} if server == "open" else {"udp"})
    if found == "no" and not can_be_guessed(server, client):
        return frozenset({"relay"})
    return frozenset({"udp", "relay"})


def expected_later(server: str, client: str) -> frozenset[str]:
    """Return the paths of which one has to carry a stream some seconds later."""
    found = expected_paths(server, client)
    if found != {"udp", "relay"}:
        return found
    if entry(server, client) == "no" and "linux-nofw" in (server, client):
        # Of the ports that could be hit those are spoilt that were heard of first.
        return found
    return frozenset({"udp"})


def can_be_guessed(first: str, second: str) -> bool:
    """Tell whether one end holds random ports open of which the other can hit one."""
    random = {"symmetric", "symmetric-addr", "symmetric-open"}
    fixed = {"firewall", "port-restricted", "linux-nofw"}
    return (first in random and second in fixed) or (
        first in fixed and second in random
    )
