"""Systems in the store: bound to an account, renamed, opened to others, unbound."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Sequence

import attrs

from dwcloud.accounts.audit import Actor, record
from dwcloud.accounts.changes import (
    AccessSnapshot,
    RoleGranted,
    RoleRevoked,
    SystemState,
    SystemUnbound,
)
from dwcloud.accounts.refusals import Refused, system_unknown
from dwcloud.accounts.roles import Role, check_at_least
from dwcloud.accounts.tokens import RandomBytes
from dwcloud.accounts.transactions import Row, Transaction
from dwcloud.protocol.grants.access import NOBODY

__all__ = [
    "CHALLENGE_LIFETIME",
    "GRANT_LIFETIME",
    "System",
    "bind_system",
    "change_system",
    "check_system_name",
    "forget_old_secrets",
    "get_system",
    "known_servers",
    "list_systems",
    "load_access",
    "new_challenge",
    "note_server",
    "unbind_system",
]

CHALLENGE_LIFETIME = 60
"""Seconds in which a challenge must be answered."""

GRANT_LIFETIME = 24 * 3600
"""Seconds for which a grant counts at most, so revocations are kept as long."""

_MAX_CHALLENGES = 20
_MAX_SYSTEMS = 1_000
_MAX_SERVERS = 1_000


@attrs.frozen
class System:
    """A system as somebody with a role on it sees it.

    :ivar owner: the name of the account that owns it.
    :ivar role: the role of the one who asked.
    :ivar public: whether everybody who knows its GUID may connect.
    :ivar web: whether browsers may reach its web service through a relay.
    """

    id: uuid.UUID
    name: str
    owner: str
    role: Role
    public: bool
    web: bool


_SYSTEMS = (
    "SELECT systems.id, systems.name, accounts.name, mine.role, is_public, web"
    " FROM roles AS mine JOIN systems ON systems.id = mine.system"
    " JOIN roles AS owning ON owning.system = systems.id AND owning.role = 3"
    " JOIN accounts ON accounts.id = owning.account WHERE mine.account = ?"
)


def _system(row: Row) -> System:
    identifier, name, owner, role, public, web = row
    return System(
        uuid.UUID(identifier), name, owner, Role(role), bool(public), bool(web)
    )


def list_systems(transaction: Transaction, actor: Actor) -> list[System]:
    """Return the systems on which somebody has a role, by name."""
    rows = transaction.all(
        f"{_SYSTEMS} ORDER BY systems.name, accounts.name, systems.id",
        str(actor.account),
    )
    seen = (_within(actor, _system(row)) for row in rows)
    return [system for system in seen if system is not None]


def _within(actor: Actor, system: System) -> System | None:
    """Return a system as the token of a request lets it be seen, None if it does not.

    All questions about systems come by here, so that no token opens more than its own.
    """
    scope = actor.scope
    if scope is None:
        return system
    if system.id != scope.system:
        return None
    return attrs.evolve(system, role=min(system.role, scope.role))


def get_system(transaction: Transaction, actor: Actor, system: uuid.UUID) -> System:
    """Return a system on which somebody has a role.

    :raises Refused: 404, alike for systems of others and for those that do not exist.
    """
    row = transaction.one(
        f"{_SYSTEMS} AND systems.id = ?", str(actor.account), str(system)
    )
    system_seen = None if row is None else _within(actor, _system(row))
    if system_seen is None:
        raise system_unknown()
    return system_seen


def new_challenge(
    transaction: Transaction,
    actor: Actor,
    random_bytes: RandomBytes = secrets.token_bytes,
) -> bytes:
    """Make a nonce that somebody signs by a system's key, to bind it."""
    account = str(actor.account)
    transaction.execute(
        "DELETE FROM challenges WHERE account = ? AND (expires <= ? OR hash IN"
        " (SELECT hash FROM challenges WHERE account = ?"
        " ORDER BY expires DESC, hash LIMIT 1000 OFFSET ?))",
        account,
        transaction.now,
        account,
        _MAX_CHALLENGES - 1,
    )
    nonce = random_bytes(32)
    transaction.execute(
        "INSERT INTO challenges VALUES (?, ?, ?)",
        hashlib.sha256(nonce).hexdigest(),
        account,
        transaction.now + CHALLENGE_LIFETIME * 1000,
    )
    return nonce


def bind_system(
    transaction: Transaction,
    actor: Actor,
    name: str,
    *,
    system: uuid.UUID,
    public_key: bytes,
    nonce: bytes,
) -> System:
    """Bind a system, whose key has signed the nonce, to an account.

    :param name: as :func:`dwcloud.accounts.names.system_name` returns it.
    :raises Refused: 400 or 409.
    """
    spent = transaction.execute(
        "DELETE FROM challenges WHERE hash = ? AND account = ? AND expires > ?",
        hashlib.sha256(nonce).hexdigest(),
        str(actor.account),
        transaction.now,
    )
    if not spent:
        raise Refused(
            400,
            "bad_nonce",
            "The nonce was used, is older than a minute, or was given to another "
            "account; ask for a new one.",
        )
    known = transaction.one("SELECT 1 FROM systems WHERE id = ?", str(system))
    if known is not None:
        raise Refused(
            409,
            "bound",
            f"System {system} is bound to an account already; its owner can unbind it.",
        )
    check_system_name(transaction, actor.account, name)
    row = transaction.one(
        "SELECT COUNT(*) FROM roles WHERE account = ? AND role = 3",
        str(actor.account),
    )
    if row is not None and row[0] >= _MAX_SYSTEMS:
        raise Refused(
            409, "too_many", f"An account owns {_MAX_SYSTEMS} systems at most."
        )
    transaction.execute(
        "INSERT INTO systems (id, name, public_key, bound) VALUES (?, ?, ?, ?)",
        str(system),
        name,
        public_key.hex(),
        transaction.now,
    )
    transaction.execute(
        "INSERT INTO roles VALUES (?, ?, ?, ?)",
        str(system),
        str(actor.account),
        int(Role.OWNER),
        transaction.now,
    )
    record(transaction, "system.bound", actor, system=system, detail={"name": name})
    transaction.changes += [
        SystemState(system, False, False),
        RoleGranted(system, actor.account, Role.OWNER, transaction.now),
    ]
    return System(system, name, actor.name, Role.OWNER, False, False)


def check_system_name(transaction: Transaction, owner: uuid.UUID, name: str) -> None:
    """Make sure that an account owns no system of that name yet.

    :raises Refused: 409, if it does.
    """
    row = transaction.one(
        "SELECT 1 FROM systems JOIN roles ON roles.system = systems.id"
        " WHERE roles.account = ? AND roles.role = 3 AND systems.name = ?",
        str(owner),
        name,
    )
    if row is not None:
        raise Refused(
            409, "name_taken", f"The owner has a system named {name!r} already."
        )


def change_system(
    transaction: Transaction,
    actor: Actor,
    system: uuid.UUID,
    *,
    name: str | None,
    public: bool | None,
    web: bool | None,
) -> System:
    """Rename a system, or open it to everybody or to browsers; None leaves it.

    :raises Refused: 403, 404 or 409.
    """
    before = get_system(transaction, actor, system)
    after = attrs.evolve(
        before,
        name=before.name if name is None else name,
        public=before.public if public is None else public,
        web=before.web if web is None else web,
    )
    if after == before:
        return before
    if after.name != before.name:
        check_at_least(before.role, Role.ADMINISTRATOR, "rename it")
        row = transaction.one(
            "SELECT account FROM roles WHERE system = ? AND role = 3", str(system)
        )
        assert row is not None
        check_system_name(transaction, uuid.UUID(row[0]), after.name)
    opened = (after.public, after.web) != (before.public, before.web)
    if opened:
        check_at_least(before.role, Role.OWNER, "open it to others")
        transaction.changes.append(SystemState(system, after.public, after.web))
    transaction.execute(
        "UPDATE systems SET name = ?, is_public = ?, web = ? WHERE id = ?",
        after.name,
        int(after.public),
        int(after.web),
        str(system),
    )
    changed = {
        field: getattr(after, field)
        for field in ("name", "public", "web")
        if getattr(after, field) != getattr(before, field)
    }
    record(transaction, "system.changed", actor, system=system, detail=changed)
    return after


def unbind_system(transaction: Transaction, actor: Actor, system: uuid.UUID) -> None:
    """Take a system from its account and from everybody who has a role on it.

    :raises Refused: 403 or 404.
    """
    known = get_system(transaction, actor, system)
    check_at_least(known.role, Role.OWNER, "unbind it")
    record(
        transaction, "system.unbound", actor, system=system, detail={"name": known.name}
    )
    transaction.execute("DELETE FROM systems WHERE id = ?", str(system))
    transaction.changes.append(SystemUnbound(system))


def load_access(transaction: Transaction) -> AccessSnapshot:
    """Return what counts now, for those who enforce it."""
    since = transaction.now - GRANT_LIFETIME * 1000
    states = transaction.all(
        "SELECT id, is_public, web, bound FROM systems ORDER BY id"
    )
    revocations = transaction.all(
        "SELECT system, account, at FROM revocations WHERE at > ?"
        " ORDER BY system, account",
        since,
    )
    # What a former owner's people were granted is not revived by a new binding.
    rebound = [
        RoleRevoked(uuid.UUID(system), NOBODY, bound - 1)
        for system, _, _, bound in states
        if bound > since
    ]
    return AccessSnapshot(
        tuple(SystemState(uuid.UUID(i), bool(p), bool(w)) for i, p, w, _ in states),
        tuple(
            RoleRevoked(uuid.UUID(system), uuid.UUID(account), at)
            for system, account, at in revocations
        )
        + tuple(rebound),
    )


def note_server(transaction: Transaction, system: uuid.UUID, server: uuid.UUID) -> None:
    """Remember that a server of a system is, or was until now, online."""
    transaction.execute(
        "INSERT INTO servers SELECT id, ?, ? FROM systems WHERE id = ?"
        " AND (SELECT COUNT(*) FROM servers WHERE system = systems.id) < ?"
        " ON CONFLICT (system, server) DO UPDATE SET seen = excluded.seen",
        str(server),
        transaction.now,
        str(system),
        _MAX_SERVERS,
    )


def known_servers(
    transaction: Transaction, actor: Actor, systems: Sequence[uuid.UUID]
) -> dict[uuid.UUID, dict[uuid.UUID, int]]:
    """Return when servers of somebody's systems were seen last (ms since 1970).

    :param systems: of which servers are wanted; without a role on one it has none.
    """
    found: dict[uuid.UUID, dict[uuid.UUID, int]] = {system: {} for system in systems}
    which = " AND servers.system = ?" if len(systems) == 1 else ""
    rows = transaction.all(
        "SELECT servers.system, server, seen FROM roles"
        f" JOIN servers ON servers.system = roles.system WHERE account = ?{which}",
        str(actor.account),
        *(str(system) for system in systems if which),
    )
    for system, server, seen in rows:
        if uuid.UUID(system) in found:
            found[uuid.UUID(system)][uuid.UUID(server)] = seen
    return found


def forget_old_secrets(transaction: Transaction) -> None:
    """Remove what has expired: sessions, invitations, challenges, revocations."""
    for table in ("sessions", "invitations", "challenges"):
        transaction.execute(f"DELETE FROM {table} WHERE expires <= ?", transaction.now)
    transaction.execute(
        "DELETE FROM revocations WHERE at <= ?",
        transaction.now - GRANT_LIFETIME * 1000,
    )
