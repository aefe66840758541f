"""Accounts in the store: transactions that make, change and close them."""

from __future__ import annotations

import uuid

import attrs

from dwcloud.accounts.audit import Actor, record
from dwcloud.accounts.changes import RoleRevoked
from dwcloud.accounts.refusals import Refused
from dwcloud.accounts.roles import Role
from dwcloud.accounts.sealing import Seal
from dwcloud.accounts.second_factor import (
    check_second_factor,
    matching_step,
    new_recovery_codes,
    new_secret,
)
from dwcloud.accounts.tokens import hash_secret, normal_code
from dwcloud.accounts.transactions import Transaction

__all__ = [
    "CLOSED",
    "INVITED",
    "OPEN",
    "Account",
    "Credentials",
    "begin_totp",
    "change_password",
    "close_account",
    "confirm_totp",
    "create_account",
    "find_account",
    "find_credentials",
    "remove_totp",
    "renew_hash",
    "revoke",
    "revoke_everywhere",
]

OPEN, INVITED, CLOSED = "open", "invited", "closed"
"""Who may register: everybody, those with an invitation, nobody."""


@attrs.frozen
class Account:
    """A person's account.

    :ivar totp: whether a second factor is asked for.
    """

    id: uuid.UUID
    name: str
    totp: bool = False


@attrs.frozen
class Credentials:
    """What a sign-in is checked against."""

    account: uuid.UUID
    name: str
    password_hash: str = attrs.field(repr=False)
    disabled: bool


def create_account(
    transaction: Transaction,
    name: str,
    password_hash: str,
    *,
    registration: str,
    invitation: str | None,
    address: str,
) -> Account:
    """Make an account.

    An invitation to a system is still there afterwards, to be accepted; one that is
    only for registering is used up.

    :param name: as :func:`dwcloud.accounts.names.account_name` returns it.
    :raises Refused: 403 or 409.
    """
    if registration == CLOSED:
        raise Refused(403, "registration_closed", "This cloud takes no new accounts.")
    if registration == INVITED:
        _check_invitation(transaction, invitation)
    if transaction.one("SELECT 1 FROM accounts WHERE name = ?", name) is not None:
        raise Refused(409, "name_taken", f"There is an account named {name!r} already.")
    account = Account(uuid.uuid4(), name)
    transaction.execute(
        "INSERT INTO accounts (id, name, password_hash, created) VALUES (?, ?, ?, ?)",
        str(account.id),
        name,
        password_hash,
        transaction.now,
    )
    record(
        transaction,
        "account.registered",
        account=account.id,
        who=name,
        address=address,
    )
    return account


def _check_invitation(transaction: Transaction, invitation: str | None) -> None:
    hashed = hash_secret(normal_code(invitation or ""))
    row = transaction.one(
        "SELECT system FROM invitations WHERE hash = ? AND expires > ?",
        hashed,
        transaction.now,
    )
    if row is None:
        raise Refused(
            403,
            "invitation_needed",
            "This cloud takes new accounts only with an invitation that is still good; "
            "ask whoever shares a system with you for one.",
        )
    if row[0] is None:
        transaction.execute("DELETE FROM invitations WHERE hash = ?", hashed)


def find_credentials(transaction: Transaction, name: str) -> Credentials | None:
    """Return what a sign-in under this name is checked against."""
    row = transaction.one(
        "SELECT id, name, password_hash, disabled FROM accounts WHERE name = ?",
        name,
    )
    if row is None:
        return None
    return Credentials(uuid.UUID(row[0]), row[1], row[2], bool(row[3]))


def find_account(transaction: Transaction, account: uuid.UUID) -> Account:
    """Return an account that is there.

    :raises Refused: 401, if it has been closed meanwhile.
    """
    row = transaction.one(
        "SELECT name, totp_sealed FROM accounts WHERE id = ?", str(account)
    )
    if row is None:
        raise Refused(401, "signed_out", "This account has been closed.")
    return Account(account, row[0], row[1] is not None)


def renew_hash(transaction: Transaction, checked: Credentials, new_hash: str) -> None:
    """Keep a hash of the same password made with today's parameters."""
    transaction.execute(
        "UPDATE accounts SET password_hash = ? WHERE id = ? AND password_hash = ?",
        new_hash,
        str(checked.account),
        checked.password_hash,
    )


def change_password(
    transaction: Transaction, actor: Actor, checked: Credentials, new_hash: str
) -> None:
    """Change a password; all other sessions and all grants count no more.

    :param checked: what the old password was right for.
    :raises Refused: 409, if the password was changed meanwhile.
    """
    changed = transaction.execute(
        "UPDATE accounts SET password_hash = ? WHERE id = ? AND password_hash = ?",
        new_hash,
        str(actor.account),
        checked.password_hash,
    )
    if not changed:
        raise Refused(409, "changed_meanwhile", "The password was changed meanwhile.")
    transaction.execute(
        "DELETE FROM sessions WHERE account = ? AND id <> ?",
        str(actor.account),
        str(actor.session),
    )
    revoke_everywhere(transaction, actor.account)
    record(transaction, "password.changed", actor)


def revoke_everywhere(transaction: Transaction, account: uuid.UUID) -> None:
    """Let no grant of an account count that was issued until now."""
    rows = transaction.all(
        "SELECT system FROM roles WHERE account = ? ORDER BY system", str(account)
    )
    for (system,) in rows:
        revoke(transaction, uuid.UUID(system), account)


def revoke(transaction: Transaction, system: uuid.UUID, account: uuid.UUID) -> None:
    """Let no grant of an account for a system count that was issued until now."""
    transaction.execute(
        "INSERT INTO revocations (system, account, at) VALUES (?, ?, ?)"
        " ON CONFLICT (system, account) DO UPDATE SET at = excluded.at",
        str(system),
        str(account),
        transaction.now,
    )
    transaction.changes.append(RoleRevoked(system, account, transaction.now))


def close_account(transaction: Transaction, actor: Actor) -> None:
    """Close an account; it has no systems of its own any more.

    :raises Refused: 409, if it owns systems.
    """
    rows = transaction.all(
        "SELECT systems.name FROM systems JOIN roles ON roles.system = systems.id"
        " WHERE roles.account = ? AND roles.role = ? ORDER BY systems.name",
        str(actor.account),
        int(Role.OWNER),
    )
    if rows:
        names = ", ".join(name for (name,) in rows)
        raise Refused(
            409,
            "owns_systems",
            f"This account owns systems: {names}. Transfer or unbind them first.",
        )
    revoke_everywhere(transaction, actor.account)
    record(transaction, "account.closed", actor)
    transaction.execute("DELETE FROM accounts WHERE id = ?", str(actor.account))


def begin_totp(transaction: Transaction, actor: Actor, seal: Seal) -> str:
    """Make the secret of a second factor, which counts once it is confirmed.

    :raises Refused: 409, if there is a second factor.
    """
    if find_account(transaction, actor.account).totp:
        raise Refused(
            409, "totp_enabled", "There is a second factor already; remove it first."
        )
    secret = new_secret()
    account = str(actor.account)
    transaction.execute(
        "UPDATE accounts SET totp_pending = ? WHERE id = ?",
        seal.close(secret.encode("ascii"), account),
        account,
    )
    return secret


def confirm_totp(
    transaction: Transaction, actor: Actor, seal: Seal, code: str
) -> list[str]:
    """Ask for a second factor from now on, of which a code was shown.

    :return: recovery codes, which are shown once.
    :raises Refused: 409, if none was begun; 400, if the code is not right.
    """
    account = str(actor.account)
    row = transaction.one("SELECT totp_pending FROM accounts WHERE id = ?", account)
    if row is None or row[0] is None:
        raise Refused(409, "totp_not_begun", "Ask for a new secret first.")
    secret = seal.open(row[0], account).decode("ascii")
    step = matching_step(secret, code, transaction.now, 0)
    if step is None:
        raise Refused(
            400,
            "bad_code",
            "This is not the code of the moment; is the clock of the device right?",
        )
    transaction.execute(
        "UPDATE accounts SET totp_sealed = totp_pending, totp_pending = NULL,"
        " totp_step = ? WHERE id = ?",
        step,
        account,
    )
    record(transaction, "totp.enabled", actor)
    return new_recovery_codes(transaction, account)


def remove_totp(transaction: Transaction, actor: Actor, seal: Seal, code: str) -> bool:
    """Ask for no second factor any more; False if the code is not right.

    :param code: of the device, or a recovery code.
    :raises Refused: 409, if there is none.
    """
    account = str(actor.account)
    if not find_account(transaction, actor.account).totp:
        raise Refused(409, "totp_not_enabled", "There is no second factor.")
    if not check_second_factor(transaction, seal, account, code):
        return False
    transaction.execute(
        "UPDATE accounts SET totp_sealed = NULL, totp_pending = NULL WHERE id = ?",
        account,
    )
    transaction.execute("DELETE FROM recovery_codes WHERE account = ?", account)
    record(transaction, "totp.removed", actor)
    return True
