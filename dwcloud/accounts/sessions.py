"""Sessions in the store: how somebody stays signed in, and how that ends."""

from __future__ import annotations

import secrets
import uuid

import attrs

from dwcloud.accounts.audit import REFUSED, Actor, Scope, record
from dwcloud.accounts.people import Account, Credentials, revoke, revoke_everywhere
from dwcloud.accounts.refusals import Refused
from dwcloud.accounts.roles import Role
from dwcloud.accounts.sealing import Seal
from dwcloud.accounts.second_factor import check_second_factor
from dwcloud.accounts.tokens import RandomBytes, hash_secret, new_token
from dwcloud.accounts.transactions import Row, Transaction

__all__ = [
    "ACCESS_LIFETIME",
    "BEARER",
    "COOKIE",
    "COOKIE_IDLE",
    "SESSION_LIFETIME",
    "TOKEN",
    "OpenedSession",
    "SessionRecord",
    "SignInOutcome",
    "close_session",
    "list_sessions",
    "record_failed_sign_in",
    "refresh_session",
    "session_of",
    "sign_in",
]

BEARER, COOKIE, TOKEN = "bearer", "cookie", "token"
"""Kinds of sessions: of a program, of a browser, and of a token for one system
(:mod:`dwcloud.accounts.system_tokens`)."""

ACCESS_LIFETIME = 15 * 60
"""Seconds for which an access token counts."""

COOKIE_IDLE = 12 * 3600
"""Seconds after the last request for which a browser's session counts."""

SESSION_LIFETIME = 30 * 24 * 3600
"""Seconds after which one has to sign in again in any case."""

_MAX_SESSIONS = 50
"""Of one account; one more ends the one used the longest time ago."""

_TOUCH_AFTER = 60_000
_LOST_ANSWER = 60
"""Seconds in which the answer to a refresh may turn out to be lost."""


@attrs.frozen
class OpenedSession:
    """A session, with the secrets that are told once.

    :ivar access_token: for each request, or for the cookie.
    :ivar refresh_token: for a new pair of tokens; empty for a browser's session.
    :ivar expires_in: seconds for which the access token counts.
    """

    id: uuid.UUID
    account: Account
    access_token: str = attrs.field(repr=False)
    refresh_token: str = attrs.field(repr=False)
    expires_in: int


SignInOutcome = OpenedSession | str
"""The session, or why there is none: ``totp_required`` or ``bad_credentials``."""


@attrs.frozen
class SessionRecord:
    """A session as its owner sees it; times are milliseconds since 1970.

    :ivar system: the only one that a token opens, None for sessions of other kinds.
    :ivar role: the most that may be done with it there.
    :ivar label: what the owner calls it.
    """

    id: uuid.UUID
    kind: str
    created: int
    used: int
    expires: int
    address: str
    agent: str
    system: uuid.UUID | None = None
    role: Role | None = None
    label: str = ""


def sign_in(
    transaction: Transaction,
    checked: Credentials,
    *,
    seal: Seal,
    totp: str | None,
    kind: str,
    address: str,
    agent: str,
    random_bytes: RandomBytes = secrets.token_bytes,
) -> SignInOutcome:
    """Open a session for somebody whose password was right.

    :param checked: what the password was right for.
    :param totp: a code of the second factor, or a recovery code.
    :param kind: ``bearer`` or ``cookie``.
    :param agent: the program that asks, for the list of sessions.
    """
    account_id = str(checked.account)
    row = transaction.one(
        "SELECT totp_sealed FROM accounts"
        " WHERE id = ? AND password_hash = ? AND disabled = 0",
        account_id,
        checked.password_hash,
    )
    if row is None:
        # Changed, closed or disabled between the check and now.
        return _refused(transaction, checked, "bad_credentials", address)
    if row[0] is not None:
        if not totp:
            return _refused(transaction, checked, "totp_required", address)
        if not check_second_factor(transaction, seal, account_id, totp):
            return _refused(transaction, checked, "bad_credentials", address)
    transaction.execute(
        "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE account = ?"
        " AND kind <> ? ORDER BY used DESC, id LIMIT 1000 OFFSET ?)",
        account_id,
        TOKEN,
        _MAX_SESSIONS - 1,
    )
    opened = _open(transaction, checked, kind, address, agent, random_bytes)
    record(
        transaction,
        "session.opened",
        account=checked.account,
        who=checked.name,
        detail={"kind": kind, "agent": agent},
        address=address,
    )
    return attrs.evolve(
        opened, account=attrs.evolve(opened.account, totp=row[0] is not None)
    )


def _refused(
    transaction: Transaction, checked: Credentials, reason: str, address: str
) -> str:
    record_failed_sign_in(transaction, checked.name, checked, reason, address)
    return reason


def record_failed_sign_in(
    transaction: Transaction,
    name: str,
    checked: Credentials | None,
    reason: str,
    address: str,
) -> None:
    """Write down that a sign-in was refused.

    :param checked: the account it was for, None if there is none.
    """
    record(
        transaction,
        "session.refused",
        outcome=REFUSED,
        account=None if checked is None else checked.account,
        who=name,
        detail={"reason": reason},
        address=address,
    )


def _open(
    transaction: Transaction,
    checked: Credentials,
    kind: str,
    address: str,
    agent: str,
    random_bytes: RandomBytes,
) -> OpenedSession:
    lifetime = ACCESS_LIFETIME if kind == BEARER else COOKIE_IDLE
    opened = OpenedSession(
        uuid.uuid4(),
        Account(checked.account, checked.name),
        new_token(random_bytes),
        new_token(random_bytes) if kind == BEARER else "",
        lifetime,
    )
    transaction.execute(
        "INSERT INTO sessions (id, account, kind, access_hash, access_expires,"
        " refresh_hash, refreshed, created, used, expires, address, agent)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        str(opened.id),
        str(checked.account),
        kind,
        hash_secret(opened.access_token),
        transaction.now + lifetime * 1000,
        hash_secret(opened.refresh_token) if kind == BEARER else None,
        transaction.now,
        transaction.now,
        transaction.now,
        transaction.now + SESSION_LIFETIME * 1000,
        address,
        agent[:200],
    )
    return opened


def refresh_session(
    transaction: Transaction,
    refresh_token: str,
    address: str,
    random_bytes: RandomBytes = secrets.token_bytes,
) -> OpenedSession | None:
    """Give new tokens for a refresh token, which is then spent; None if it is not good.

    Whoever comes with one that is spent, or the one who has the new ones, has stolen
    them: the whole session ends, and both have to prove themselves by the password. But
    an answer may get lost: the token spent last is good for a minute, as long as nobody
    has used what was given for it, which is spent in its place.
    """
    hashed = hash_secret(refresh_token)
    row = transaction.one(
        "SELECT sessions.id, account, name, totp_sealed, refresh_hash FROM sessions"
        " JOIN accounts ON accounts.id = account"
        " WHERE expires > ? AND disabled = 0 AND (refresh_hash = ?"
        " OR (previous_hash = ? AND confirmed = 0 AND refreshed > ?))",
        transaction.now,
        hashed,
        hashed,
        transaction.now - _LOST_ANSWER * 1000,
    )
    if row is None:
        _end_if_spent(transaction, hashed, address)
        return None
    session, account, name, totp, current = row
    opened = OpenedSession(
        uuid.UUID(session),
        Account(uuid.UUID(account), name, totp is not None),
        new_token(random_bytes),
        new_token(random_bytes),
        ACCESS_LIFETIME,
    )
    transaction.execute("INSERT INTO spent_tokens VALUES (?, ?)", current, session)
    transaction.execute(
        "UPDATE sessions SET access_hash = ?, access_expires = ?, refresh_hash = ?,"
        " previous_hash = ?, refreshed = ?, confirmed = 0, used = ?, address = ?"
        " WHERE id = ?",
        hash_secret(opened.access_token),
        transaction.now + ACCESS_LIFETIME * 1000,
        hash_secret(opened.refresh_token),
        hashed,
        transaction.now,
        transaction.now,
        address,
        session,
    )
    return opened


def _end_if_spent(transaction: Transaction, hashed: str, address: str) -> None:
    """End the session of a refresh token that was used before."""
    spent = transaction.one(
        "SELECT session, account, name FROM spent_tokens"
        " JOIN sessions ON sessions.id = session"
        " JOIN accounts ON accounts.id = account WHERE hash = ?",
        hashed,
    )
    if spent is None:
        return
    session, account, name = spent
    transaction.execute("DELETE FROM sessions WHERE id = ?", session)
    record(
        transaction,
        "session.revoked",
        outcome=REFUSED,
        account=uuid.UUID(account),
        who=name,
        detail={"reason": "a refresh token was used twice"},
        address=address,
    )


def session_of(
    transaction: Transaction, access_token: str, kind: str, address: str
) -> Actor | None:
    """Return who comes with an access token, None if it does not count.

    :param kind: how it came; a token of a cookie is none for a header field, and the
        other way round.
    """
    row = transaction.one(
        "SELECT sessions.id, account, name, used, confirmed, system, role, label,"
        " access_expires FROM sessions JOIN accounts ON accounts.id = account"
        " WHERE access_hash = ? AND kind IN (?, ?) AND access_expires > ?"
        " AND expires > ? AND disabled = 0",
        hash_secret(access_token),
        kind,
        TOKEN if kind == BEARER else kind,
        transaction.now,
        transaction.now,
    )
    if row is None:
        return None
    session, account, name, used, confirmed, system, role, label, expires = row
    if not confirmed or transaction.now - used > _TOUCH_AFTER:
        longer = COOKIE_IDLE * 1000 if kind == COOKIE else 0
        transaction.execute(
            "UPDATE sessions SET used = ?, confirmed = 1, access_expires ="
            " CASE WHEN ? > access_expires THEN ? ELSE access_expires END WHERE id = ?",
            transaction.now,
            transaction.now + longer,
            transaction.now + longer,
            session,
        )
    scope = None
    if system is not None:
        scope = Scope(uuid.UUID(system), Role(role), label, expires)
    return Actor(uuid.UUID(account), name, uuid.UUID(session), address, scope)


def list_sessions(transaction: Transaction, actor: Actor) -> list[SessionRecord]:
    """Return the sessions of an account, the one used last first."""
    rows = transaction.all(
        "SELECT id, kind, created, used, expires, address, agent, system, role, label"
        " FROM sessions WHERE account = ? AND expires > ? ORDER BY used DESC, id",
        str(actor.account),
        transaction.now,
    )
    return [_session(row) for row in rows]


def _session(row: Row) -> SessionRecord:
    session, kind, created, used, expires, address, agent, system, role, label = row
    return SessionRecord(
        uuid.UUID(session),
        kind,
        created,
        used,
        expires,
        address,
        agent,
        None if system is None else uuid.UUID(system),
        None if role is None else Role(role),
        label,
    )


def close_session(transaction: Transaction, actor: Actor, session: uuid.UUID) -> None:
    """End a session of one's own account.

    If it is another one than that of the request it may be in wrong hands: what the
    account was granted until now counts no more, since grants do not tell by which
    session they were had. Sessions that go on get new ones.

    :raises Refused: 404, if the account has no such session.
    """
    row = transaction.one(
        "SELECT kind, system, label, confirmed FROM sessions"
        " WHERE id = ? AND account = ?",
        str(session),
        str(actor.account),
    )
    if row is None:
        raise Refused(404, "no_such_session", "You have no such session.")
    kind, system, label, used = row
    transaction.execute("DELETE FROM sessions WHERE id = ?", str(session))
    if kind == TOKEN:
        of = uuid.UUID(system)
        if used:
            revoke(transaction, of, actor.account)
        detail = {"label": label}
        record(transaction, "token.revoked", actor, system=of, detail=detail)
        return
    if kind == BEARER and used and session != actor.session:
        revoke_everywhere(transaction, actor.account)
    record(transaction, "session.closed", actor, detail={"session": str(session)})
