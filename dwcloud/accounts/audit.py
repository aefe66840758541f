"""The log of the store: who did what, when, from where, with what outcome."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

import attrs

from dwcloud.accounts.roles import Role
from dwcloud.accounts.transactions import Row, Transaction

__all__ = [
    "REFUSED",
    "SUCCEEDED",
    "Actor",
    "LogEntry",
    "Scope",
    "forget_old_entries",
    "read_account_log",
    "read_system_log",
    "record",
]

SUCCEEDED = "ok"
REFUSED = "refused"

_KEPT = 90 * 24 * 3600 * 1000
"""Milliseconds for which entries are kept."""

_LONGEST = 400


@attrs.frozen
class Scope:
    """What a token for one system opens.

    :ivar system: this one, and all others are as if they were not there.
    :ivar role: the most that may be done with it; the account may have less by now.
    :ivar label: what its owner calls the token.
    :ivar expires: when it ends, milliseconds since 1970.
    """

    system: uuid.UUID
    role: Role
    label: str
    expires: int


@attrs.frozen
class Actor:
    """Somebody who is signed in and asks for something.

    :ivar account: the account.
    :ivar name: its name.
    :ivar session: the session by which the request came.
    :ivar address: the IP address it came from.
    :ivar scope: what it is good for, None for all that the account may do.
    """

    account: uuid.UUID
    name: str
    session: uuid.UUID
    address: str
    scope: Scope | None = None


@attrs.frozen
class LogEntry:
    """One entry of the log.

    :ivar id: entries that came later have greater ones.
    :ivar at: milliseconds since 1970.
    :ivar action: such as ``member.added``.
    :ivar outcome: ``ok``, ``refused``, or the reason of a connection's failure.
    :ivar who: the name of the account that acted, as it was given where there was none.
    :ivar detail: what else there is to say.
    :ivar address: the IP address it came from, empty where not known.
    """

    id: int
    at: int
    action: str
    outcome: str
    who: str
    detail: dict[str, Any]
    address: str


def record(
    transaction: Transaction,
    action: str,
    actor: Actor | None = None,
    *,
    outcome: str = SUCCEEDED,
    account: uuid.UUID | None = None,
    who: str = "",
    system: uuid.UUID | None = None,
    detail: Mapping[str, Any] | None = None,
    address: str = "",
) -> None:
    """Write an entry, which counts if the transaction does."""
    if actor is not None:
        account, who, address = actor.account, actor.name, actor.address
        if actor.scope is not None:
            detail = {**(detail or {}), "token": actor.scope.label}
    transaction.execute(
        "INSERT INTO log (at, action, outcome, account, who, system, detail, address)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        transaction.now,
        action,
        outcome[:_LONGEST],
        None if account is None else str(account),
        who[:_LONGEST],
        None if system is None else str(system),
        json.dumps(detail or {}),
        address[:_LONGEST],
    )


_COLUMNS = "log.id, at, action, outcome, who, detail, address"


def _entry(row: Row) -> LogEntry:
    number, at, action, outcome, who, detail, address = row
    return LogEntry(number, at, action, outcome, who, json.loads(detail), address)


def read_system_log(
    transaction: Transaction, system: uuid.UUID, before: int | None, limit: int
) -> list[LogEntry]:
    """Return entries of a system, the newest first.

    Those from before it was bound to its present owner are not his.

    :param before: only entries with smaller numbers.
    """
    rows = transaction.all(
        f"SELECT {_COLUMNS} FROM log JOIN systems ON log.system = systems.id"
        " WHERE systems.id = ? AND at >= bound AND log.id < ?"
        " ORDER BY log.id DESC LIMIT ?",
        str(system),
        _limit(before),
        limit,
    )
    return [_entry(row) for row in rows]


def read_account_log(
    transaction: Transaction, account: uuid.UUID, before: int | None, limit: int
) -> list[LogEntry]:
    """Return entries of what an account did or suffered, the newest first."""
    rows = transaction.all(
        f"SELECT {_COLUMNS} FROM log WHERE account = ? AND id < ?"
        " ORDER BY id DESC LIMIT ?",
        str(account),
        _limit(before),
        limit,
    )
    return [_entry(row) for row in rows]


def _limit(before: int | None) -> int:
    return (1 << 63) - 1 if before is None else before


def forget_old_entries(transaction: Transaction) -> int:
    """Remove what is older than 90 days; return how many entries went."""
    return transaction.execute("DELETE FROM log WHERE at < ?", transaction.now - _KEPT)
