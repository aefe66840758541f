"""Who has which role on a system, and invitations to have one."""

from __future__ import annotations

import secrets
import uuid

import attrs

from dwcloud.accounts.audit import Actor, record
from dwcloud.accounts.changes import RoleGranted
from dwcloud.accounts.people import revoke
from dwcloud.accounts.refusals import Refused, account_unknown
from dwcloud.accounts.roles import Role, check_at_least, check_role_change
from dwcloud.accounts.systems import System, check_system_name, get_system
from dwcloud.accounts.tokens import RandomBytes, hash_secret, new_code, normal_code
from dwcloud.accounts.transactions import Transaction

__all__ = [
    "INVITATION_LIFETIME",
    "Invitation",
    "Member",
    "accept_invitation",
    "invitation_id",
    "invite",
    "invite_to_register",
    "list_invitations",
    "list_members",
    "remove_member",
    "role_of",
    "set_member",
    "withdraw_invitation",
]

INVITATION_LIFETIME = 7 * 24 * 3600
"""Seconds for which an invitation can be accepted."""

_MAX_MEMBERS = 1_000
_MAX_INVITATIONS = 100
_ID_LENGTH = 16


@attrs.frozen
class Member:
    """Somebody with a role on a system.

    :ivar since: milliseconds since 1970.
    """

    account: uuid.UUID
    name: str
    role: Role
    since: int


@attrs.frozen
class Invitation:
    """One that nobody has accepted yet.

    :ivar id: by which it is withdrawn; the code cannot be found from it.
    :ivar inviter: name of the account that made it.
    :ivar expires: milliseconds since 1970.
    """

    id: str
    role: Role
    inviter: str
    expires: int


def role_of(
    transaction: Transaction, account: uuid.UUID, system: uuid.UUID
) -> Role | None:
    """Return the role of an account on a system, None without one."""
    row = transaction.one(
        "SELECT role FROM roles JOIN accounts ON accounts.id = account"
        " WHERE system = ? AND account = ? AND disabled = 0",
        str(system),
        str(account),
    )
    return None if row is None else Role(row[0])


def list_members(
    transaction: Transaction, actor: Actor, system: uuid.UUID
) -> list[Member]:
    """Return who has a role on a system, the owner first.

    A viewer sees itself and the owner.

    :raises Refused: 404, without a role on it.
    """
    known = get_system(transaction, actor, system)
    rows = transaction.all(
        "SELECT accounts.id, name, role, since FROM roles"
        " JOIN accounts ON accounts.id = account WHERE system = ?"
        " ORDER BY role DESC, name",
        str(system),
    )
    members = [Member(uuid.UUID(i), name, Role(r), since) for i, name, r, since in rows]
    if known.role >= Role.ADMINISTRATOR:
        return members
    return [m for m in members if m.role is Role.OWNER or m.account == actor.account]


def set_member(
    transaction: Transaction,
    actor: Actor,
    system: uuid.UUID,
    name: str,
    role: Role,
) -> Member:
    """Give somebody a role; that of an owner goes from the one who gives it.

    :param name: the name of the account.
    :raises Refused: 403, 404 or 409.
    """
    known = get_system(transaction, actor, system)
    member = _find(transaction, system, name, known)
    oneself = member.account == actor.account
    check_role_change(known.role, member.before, role, oneself=oneself)
    if role is Role.OWNER and member.before is not Role.OWNER:
        check_system_name(transaction, member.account, known.name)
        # Before the other: there is one owner at any moment, and never two.
        _set(transaction, system, actor.account, Role.OWNER, Role.ADMINISTRATOR)
    since = transaction.now
    if role is not member.before:
        _set(transaction, system, member.account, member.before, role)
        record(
            transaction,
            "member.added" if member.before is None else "member.changed",
            actor,
            system=system,
            detail={"name": member.name, "role": role.label},
        )
    return Member(member.account, member.name, role, since)


def remove_member(
    transaction: Transaction, actor: Actor, system: uuid.UUID, name: str
) -> None:
    """Take somebody's role away; everybody may leave, but the owner.

    :raises Refused: 403, 404 or 409.
    """
    known = get_system(transaction, actor, system)
    member = _find(transaction, system, name, known)
    oneself = member.account == actor.account
    check_role_change(known.role, member.before, None, oneself=oneself)
    if member.before is None:
        raise account_unknown(name)
    transaction.execute(
        "DELETE FROM roles WHERE system = ? AND account = ?",
        str(system),
        str(member.account),
    )
    # Another role later on does not revive them.
    transaction.execute(
        "DELETE FROM sessions WHERE system = ? AND account = ?",
        str(system),
        str(member.account),
    )
    revoke(transaction, system, member.account)
    record(
        transaction,
        "member.removed",
        actor,
        system=system,
        detail={"name": member.name},
    )


@attrs.frozen
class _Candidate:
    account: uuid.UUID
    name: str
    before: Role | None


def _find(
    transaction: Transaction, system: uuid.UUID, name: str, known: System
) -> _Candidate:
    row = transaction.one(
        "SELECT accounts.id, name, role FROM accounts LEFT JOIN roles"
        " ON roles.account = accounts.id AND roles.system = ? WHERE name = ?",
        str(system),
        name,
    )
    if row is None or (row[2] is None and known.role is Role.VIEWER):
        # A viewer cannot ask by this which accounts there are.
        check_at_least(known.role, Role.ADMINISTRATOR, "share it")
        raise account_unknown(name)
    return _Candidate(
        uuid.UUID(row[0]), row[1], None if row[2] is None else Role(row[2])
    )


def _set(
    transaction: Transaction,
    system: uuid.UUID,
    account: uuid.UUID,
    before: Role | None,
    role: Role,
) -> None:
    if before is None:
        row = transaction.one(
            "SELECT COUNT(*) FROM roles WHERE system = ?", str(system)
        )
        if row is not None and row[0] >= _MAX_MEMBERS:
            raise Refused(
                409, "too_many", f"A system is shared with {_MAX_MEMBERS} at most."
            )
    transaction.execute(
        "INSERT INTO roles VALUES (?, ?, ?, ?)"
        " ON CONFLICT (system, account) DO UPDATE SET role = excluded.role",
        str(system),
        str(account),
        int(role),
        transaction.now,
    )
    if before is not None and role < before:
        revoke(transaction, system, account)
    transaction.changes.append(RoleGranted(system, account, role, transaction.now))


# Invitations


def invite(
    transaction: Transaction,
    actor: Actor,
    system: uuid.UUID,
    role: Role,
    random_bytes: RandomBytes = secrets.token_bytes,
) -> tuple[str, int]:
    """Make an invitation; whoever has its code can accept it, once.

    :return: the code, and when it expires, milliseconds since 1970.
    :raises Refused: 403, 404 or 409.
    """
    known = get_system(transaction, actor, system)
    check_at_least(known.role, Role.ADMINISTRATOR, "invite others")
    check_role_change(known.role, None, role, oneself=False)
    if role is Role.OWNER:
        raise Refused(
            409, "owner_must_transfer", "A system is given away by name, not by code."
        )
    row = transaction.one(
        "SELECT COUNT(*) FROM invitations WHERE system = ? AND expires > ?",
        str(system),
        transaction.now,
    )
    if row is not None and row[0] >= _MAX_INVITATIONS:
        raise Refused(
            409, "too_many", f"{_MAX_INVITATIONS} invitations are not accepted yet."
        )
    record(
        transaction,
        "invitation.made",
        actor,
        system=system,
        detail={"role": role.label},
    )
    return _invitation(transaction, random_bytes, system, role, actor.account)


def invite_to_register(
    transaction: Transaction, random_bytes: RandomBytes = secrets.token_bytes
) -> str:
    """Make an invitation that is good for one registration; return its code."""
    return _invitation(transaction, random_bytes, None, Role.VIEWER, None)[0]


def _invitation(
    transaction: Transaction,
    random_bytes: RandomBytes,
    system: uuid.UUID | None,
    role: Role,
    inviter: uuid.UUID | None,
) -> tuple[str, int]:
    code = new_code(15, random_bytes)
    expires = transaction.now + INVITATION_LIFETIME * 1000
    transaction.execute(
        "INSERT INTO invitations VALUES (?, ?, ?, ?, ?)",
        hash_secret(code),
        None if system is None else str(system),
        int(role),
        None if inviter is None else str(inviter),
        expires,
    )
    return code, expires


def accept_invitation(transaction: Transaction, actor: Actor, code: str) -> System:
    """Take the role that an invitation offers; a greater one stays.

    It counts only while whoever made it may still share the system so.

    :raises Refused: 404, if there is no such invitation any more.
    """
    hashed = hash_secret(normal_code(code))
    row = transaction.one(
        "SELECT invitations.system, invitations.role, inviting.role FROM invitations"
        " JOIN roles AS inviting ON inviting.system = invitations.system"
        " AND inviting.account = inviter"
        " WHERE hash = ? AND expires > ? AND inviting.role > invitations.role",
        hashed,
        transaction.now,
    )
    if row is None:
        raise _no_such_invitation()
    transaction.execute("DELETE FROM invitations WHERE hash = ?", hashed)
    system, role = uuid.UUID(row[0]), Role(row[1])
    before = role_of(transaction, actor.account, system)
    if before is None or before < role:
        _set(transaction, system, actor.account, before, role)
        record(
            transaction,
            "invitation.accepted",
            actor,
            system=system,
            detail={"role": role.label},
        )
    return get_system(transaction, actor, system)


def invitation_id(code: str) -> str:
    """Return what an invitation is called, by which its code cannot be guessed."""
    return hash_secret(code)[:_ID_LENGTH]


def list_invitations(
    transaction: Transaction, actor: Actor, system: uuid.UUID
) -> list[Invitation]:
    """Return the invitations that can be accepted, those that expire first before.

    :raises Refused: 403 or 404.
    """
    known = get_system(transaction, actor, system)
    check_at_least(known.role, Role.ADMINISTRATOR, "see its invitations")
    rows = transaction.all(
        "SELECT hash, invitations.role, accounts.name, expires FROM invitations"
        " JOIN roles AS inviting ON inviting.system = invitations.system"
        " AND inviting.account = inviter"
        " JOIN accounts ON accounts.id = inviter"
        " WHERE invitations.system = ? AND expires > ?"
        " AND inviting.role > invitations.role ORDER BY expires, hash",
        str(system),
        transaction.now,
    )
    return [
        Invitation(hashed[:_ID_LENGTH], Role(role), name, expires)
        for hashed, role, name, expires in rows
    ]


def withdraw_invitation(
    transaction: Transaction, actor: Actor, system: uuid.UUID, invitation: str
) -> None:
    """Let nobody accept an invitation any more.

    Whoever could give its role may.

    :param invitation: its id.
    :raises Refused: 403 or 404.
    """
    known = get_system(transaction, actor, system)
    check_at_least(known.role, Role.ADMINISTRATOR, "withdraw invitations")
    rows = transaction.all(
        "SELECT hash, role FROM invitations WHERE system = ? AND expires > ?",
        str(system),
        transaction.now,
    )
    found = [(hashed, Role(role)) for hashed, role in rows]
    for hashed, role in found:
        if hashed[:_ID_LENGTH] == invitation:
            check_role_change(known.role, None, role, oneself=False)
            transaction.execute("DELETE FROM invitations WHERE hash = ?", hashed)
            record(
                transaction,
                "invitation.withdrawn",
                actor,
                system=system,
                detail={"role": role.label},
            )
            return
    raise _no_such_invitation()


def _no_such_invitation() -> Refused:
    return Refused(
        404,
        "no_such_invitation",
        "There is no such invitation; it may be accepted, expired or withdrawn.",
    )
