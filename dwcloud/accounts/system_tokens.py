"""Tokens for one system: for programs that need no more of an account than that.

One is a session (:mod:`dwcloud.accounts.sessions`) of a kind of its own. It opens one
system, with at most the role that it was made with, until it expires. Whatever ends
sessions ends it, too: another password, the end of the account. So does the end of the
account's role on the system.
"""

from __future__ import annotations

import secrets
import uuid

import attrs

from dwcloud.accounts.audit import Actor, record
from dwcloud.accounts.refusals import Refused, forbidden
from dwcloud.accounts.roles import Role
from dwcloud.accounts.sessions import TOKEN, close_session
from dwcloud.accounts.systems import get_system
from dwcloud.accounts.tokens import RandomBytes, hash_secret, new_token
from dwcloud.accounts.transactions import Transaction

__all__ = [
    "LONGEST",
    "SHORTEST",
    "USUAL",
    "SystemToken",
    "list_tokens",
    "make_token",
    "revoke_token",
]

SHORTEST, USUAL, LONGEST = 60, 3600, 24 * 3600
"""Seconds for which a token is good: at least, if not told, and at most."""

_MAX_TOKENS = 50
"""Of one account at a time, of all systems together."""


@attrs.frozen
class SystemToken:
    """A token as its owner sees it; times are milliseconds since 1970.

    :ivar used: when a request came with it last, None if none did.
    """

    id: uuid.UUID
    label: str
    role: Role
    created: int
    used: int | None
    expires: int
    address: str


def make_token(
    transaction: Transaction,
    actor: Actor,
    system: uuid.UUID,
    role: Role,
    label: str,
    lifetime: int,
    random_bytes: RandomBytes = secrets.token_bytes,
) -> tuple[SystemToken, str]:
    """Make a token for a system; the second value is the token, which is told once.

    :param role: at most that of the account.
    :param label: what its owner calls it.
    :param lifetime: seconds for which it is good.
    :raises Refused: 403, 404 or 409.
    """
    known = get_system(transaction, actor, system)
    if role > known.role:
        raise forbidden(
            f"You are {known.role.label} of this system, and a token may do no more "
            "than you."
        )
    row = transaction.one(
        "SELECT COUNT(*) FROM sessions WHERE account = ? AND kind = ? AND expires > ?",
        str(actor.account),
        TOKEN,
        transaction.now,
    )
    if row is not None and row[0] >= _MAX_TOKENS:
        raise Refused(
            409,
            "too_many",
            f"An account has {_MAX_TOKENS} tokens at a time at most; revoke some.",
        )
    secret = new_token(random_bytes)
    made = SystemToken(
        uuid.uuid4(),
        label,
        role,
        transaction.now,
        None,
        transaction.now + lifetime * 1000,
        actor.address,
    )
    transaction.execute(
        "INSERT INTO sessions (id, account, kind, access_hash, access_expires,"
        " refreshed, created, used, expires, address, agent, system, role, label)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        str(made.id),
        str(actor.account),
        TOKEN,
        hash_secret(secret),
        made.expires,
        made.created,
        made.created,
        made.created,
        made.expires,
        made.address,
        "",
        str(system),
        int(role),
        label,
    )
    record(
        transaction,
        "token.made",
        actor,
        system=system,
        detail={"label": label, "role": role.label, "lifetime": lifetime},
    )
    return made, secret


def list_tokens(
    transaction: Transaction, actor: Actor, system: uuid.UUID
) -> list[SystemToken]:
    """Return one's own tokens for a system that are good, the newest first.

    :raises Refused: 404, without a role on it.
    """
    get_system(transaction, actor, system)
    rows = transaction.all(
        "SELECT id, label, role, created, used, confirmed, expires, address"
        " FROM sessions WHERE account = ? AND system = ? AND expires > ?"
        " ORDER BY created DESC, id",
        str(actor.account),
        str(system),
        transaction.now,
    )
    return [
        SystemToken(
            uuid.UUID(i), label, Role(role), made, used if came else None, ends, address
        )
        for i, label, role, made, used, came, ends, address in rows
    ]


def revoke_token(
    transaction: Transaction, actor: Actor, system: uuid.UUID, token: uuid.UUID
) -> None:
    """End one's own token for a system, and what was granted to the account there.

    Grants do not tell by which token they were had; sessions that go on get new ones.

    :raises Refused: 404, without a role on the system, or if there is no such token.
    """
    get_system(transaction, actor, system)
    row = transaction.one(
        "SELECT 1 FROM sessions WHERE id = ? AND account = ? AND system = ?",
        str(token),
        str(actor.account),
        str(system),
    )
    if row is None:
        raise Refused(404, "no_such_token", "You have no such token for this system.")
    close_session(transaction, actor, token)
